"""BEGAN-CS (Chang et al., ECCV 2018, arXiv 1808.07258): D's encoder is to invert G.

L_D = L(x) − k_t L(G(z_D)) + α · mean |Enc(G(z_D)) − z_D|, α = `objective.cs_weight`, their 0.1.
Needs N_h = N_z. It is claimed to stop collapse, and Enc then finds the z of an image in one pass.
"""

from jax import Array
from jax import numpy as jnp

from began_jax import models
from began_jax.models import Params
from began_jax.objectives import began
from began_jax.objectives.objective import Context
from began_jax.schema import Config


def constraint(config: Config, d: Params, fake: Array, z: Array, carry: Array | None) -> Array:
    """mean |Enc(G(z)) − z| over the batch and the N_z dimensions, a float32 scalar."""
    h = models.encode(config.model, d, fake, carry).astype(jnp.float32)
    return jnp.mean(jnp.abs(h - z))


def _discriminator(
    config: Config, d: Params, x: Array, fake: Array, z: Array, context: Context
) -> tuple[Array, Array]:
    loss, loss_real = began.OBJECTIVE.discriminator(config, d, x, fake, z, context)
    weight = config.objective.cs_weight
    return loss + weight * constraint(config, d, fake, z, context.carry), loss_real


OBJECTIVE = began.OBJECTIVE._replace(discriminator=_discriminator, energy=None)
