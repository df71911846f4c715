"""A plain critic: must D be an auto-encoder? D's encoder with one output C, and no decoder.

    L_D = mean max(0, 1 − C(x)) + mean max(0, 1 + C(G(z)))        L_G = −mean C(G(z))

(Lim and Ye 2017, arXiv 1705.02894; Miyato et al. 2018.) What is recorded as L(x) and L(G(z)) are
the two terms of L_D; there is no controller, and M_global, made of them, measures nothing (nor is
its plateau a reason to halve the learning rate: `optim.min_learning_rate` can forbid it).
"""

from jax import Array
from jax import numpy as jnp

from began_jax import models
from began_jax.models import Params
from began_jax.objectives.objective import Context, Objective, on_both
from began_jax.schema import Config


def critic(config: Config, d: Params, v: Array, carry: Array | None) -> Array:
    """C of each image, float32 (B,)."""
    return models.encode(config.model, d, v, carry)[:, 0].astype(jnp.float32)


def _discriminator(
    config: Config, d: Params, x: Array, fake: Array, z: Array, context: Context
) -> tuple[Array, Array]:
    del z

    def function(v: Array, _: Array) -> Array:
        return critic(config, d, v, context.carry)

    real, fakes = on_both(config.model, function, x, fake, context.key)
    loss_real = jnp.maximum(0.0, 1.0 - real).mean()
    loss_fake = jnp.maximum(0.0, 1.0 + fakes).mean()
    return loss_real + loss_fake, loss_real


def _generator(config: Config, d: Params, fake: Array, context: Context) -> tuple[Array, Array]:
    values = critic(config, d, fake, context.carry)
    return -values.mean(), jnp.maximum(0.0, 1.0 + values).mean()


OBJECTIVE = Objective(
    _discriminator,
    _generator,
    is_controlled=False,
    num_outputs=lambda _: 1,
    is_auto_encoder=False,
)
