"""BEGAN-CS (Chang et al., ECCV 2018, arXiv 1808.07258): D's encoder is to invert G.

L_D = L(x) − k_t L(G(z_D)) + α · mean |Enc(G(z_D)) − z_D|, α = `objective.cs_weight`, their 0.1.
Needs N_h = N_z. It is claimed to stop collapse, and Enc then finds the z of an image in one pass.
"""

from jax import Array
from jax import numpy as jnp

from began_jax import losses, models
from began_jax.models import Params
from began_jax.objectives import began
from began_jax.objectives.objective import Context, on_both
from began_jax.schema import Config


def constraint(h: Array, z: Array) -> Array:
    """Return mean |h − z| over the batch and the N_z dimensions, a float32 scalar."""
    return jnp.mean(jnp.abs(h.astype(jnp.float32) - z))


def _discriminator(
    config: Config, d: Params, x: Array, fake: Array, z: Array, context: Context
) -> tuple[Array, Array]:
    def errors_and_codes(v: Array, _: Array) -> tuple[Array, Array]:
        h = models.encode(config.model, d, v, context.carry)
        reconstruction = models.decode(config.model, d, h, context.carry)
        return losses.reconstruction_errors(v, reconstruction, config.began.eta), h

    (real, _), (fakes, h) = on_both(config.model, errors_and_codes, x, fake, context.key)
    loss_real = real.mean()
    loss = loss_real - context.k * fakes.mean()
    return loss + config.objective.cs_weight * constraint(h, z), loss_real


OBJECTIVE = began.OBJECTIVE._replace(discriminator=_discriminator, energy=None)
