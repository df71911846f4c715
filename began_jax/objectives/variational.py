"""BEGAN with a variational auto-encoder for D (Kingma and Welling 2014; the paper's own question).

L(v) = mean |v − Dec(h)|^η + β KL(q(h|v) ‖ N(0, I)) / (R² C), with h ~ q(h|v) = N(μ, diag σ²),
where the encoder gives (μ, log σ²) of v, 2 N_h numbers. Times R² C / β that is, up to a constant,
the negative evidence lower bound of pixels with Laplace noise of scale β (η = 2: Gaussian noise of
variance β / 2).
"""

from jax import Array
from jax import numpy as jnp

from began_jax import losses, models
from began_jax.models import Params
from began_jax.objectives.objective import Context, normal, of_energy
from began_jax.schema import Config


def divergence(mean: Array, log_variance: Array) -> Array:
    """KL(N(μ, diag σ²) ‖ N(0, I)) = ½ Σ (σ² + μ² − 1 − log σ²), of (B, N_h) each, by row (B,)."""
    terms = jnp.exp(log_variance) + jnp.square(mean) - 1.0 - log_variance
    return 0.5 * terms.sum(axis=1)


def energy(config: Config, d: Params, v: Array, context: Context, keys: Array) -> Array:
    """Return the terms of L(v), see above, with one sample of h for each image."""
    code = models.encode(config.model, d, v, context.carry).astype(jnp.float32)
    mean, log_variance = jnp.split(code, 2, axis=1)
    h = mean + jnp.exp(0.5 * log_variance) * normal(keys, mean.shape)
    reconstruction = models.decode(config.model, d, h, context.carry)
    errors = losses.reconstruction_errors(v, reconstruction, config.began.eta)
    kl = divergence(mean, log_variance) / v[0].size
    return errors + config.objective.kl_weight * kl


OBJECTIVE = of_energy(energy)._replace(num_outputs=lambda model: 2 * model.n_h)
