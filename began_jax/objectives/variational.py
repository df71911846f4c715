"""BEGAN with a variational auto-encoder for D (Kingma and Welling 2014; the paper's own question).

L(v) = mean |v − Dec(h)|^η + β KL(q(h|v) ‖ N(0, I)) / (R² C), with h ~ q(h|v) = N(μ, diag σ²),
where the encoder gives (μ, log σ²) of v, 2 N_h numbers. Times R² C / β that is, up to a constant,
the negative evidence lower bound of pixels with Laplace noise of scale β (η = 2: Gaussian noise of
variance β / 2).
"""

import jax
from jax import Array
from jax import numpy as jnp

from began_jax import losses, models
from began_jax.models import Params
from began_jax.objectives.objective import Context, of_energy
from began_jax.schema import Config


def divergence(mean: Array, log_variance: Array) -> Array:
    """KL(N(μ, diag σ²) ‖ N(0, I)) = ½ Σ (σ² + μ² − 1 − log σ²), of (B, N_h) each, by row (B,)."""
    terms = jnp.exp(log_variance) + jnp.square(mean) - 1.0 - log_variance
    return 0.5 * terms.sum(axis=1)


def energy(config: Config, d: Params, v: Array, context: Context, key: Array) -> Array:
    """L(v), see above, with one draw of h for each image."""
    code = models.encode(config.model, d, v, context.carry).astype(jnp.float32)
    mean, log_variance = jnp.split(code, 2, axis=1)
    h = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
    reconstruction = models.decode(config.model, d, h, context.carry)
    error = losses.reconstruction_error(v, reconstruction, config.began.eta)
    num_values = v[0].size
    kl = divergence(mean, log_variance).mean() / num_values
    return error + config.objective.kl_weight * kl


OBJECTIVE = of_energy(energy)._replace(num_outputs=lambda model: 2 * model.n_h)
