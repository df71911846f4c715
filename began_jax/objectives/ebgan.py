"""EBGAN and EBGAN-PT (Zhao, Mathieu, LeCun 2016, arXiv 1609.03126).

    L_D = mean E(x) + mean max(0, m − E(G(z)))        L_G = mean E(G(z)) [+ w · PT]

E is the error of one image, mean |v − D(v)|^η over its pixels and channels, where theirs is the
Euclidean norm. The margin m is in that unit, pixels of the range 1: theirs, 20 for CelebA at 64×64
and a range of 2, is a root mean square of 0.09, and about 0.072 as a mean |v − D(v)|. There is no
controller: k_t stands still, and M_global, no measure of theirs, sets the learning rate's plateau
alone.
"""

import jax
from jax import Array
from jax import numpy as jnp

from began_jax import losses, models
from began_jax.models import Params
from began_jax.objectives.objective import Context, Objective, on_both
from began_jax.schema import Config


def energies(config: Config, d: Params, v: Array, carry: Array | None) -> Array:
    """Return E of each image, float32 (B,)."""
    reconstruction = models.reconstruct(config.model, d, v, carry)
    return losses.reconstruction_errors(v, reconstruction, config.began.eta)


def pulling_away(codes: Array) -> Array:
    """PT = 1 / (B (B − 1)) Σ_{i ≠ j} (S_i · S_j / (|S_i| |S_j|))² of codes (B, ...); 0 to 1.

    It is small where the batch's codes point in different directions. Of one code it is 0.
    """
    rows = codes.reshape(len(codes), -1).astype(jnp.float32)
    lengths_squared = jnp.square(rows).sum(axis=1, keepdims=True)
    unit = rows * jax.lax.rsqrt(jnp.maximum(lengths_squared, 1e-24))
    others = jnp.square(unit @ unit.T) * (1.0 - jnp.eye(len(rows)))
    return others.sum() / max(len(rows) * (len(rows) - 1), 1)


def _discriminator(
    config: Config, d: Params, x: Array, fake: Array, z: Array, context: Context
) -> tuple[Array, Array]:
    del z

    def function(v: Array, _: Array) -> Array:
        return energies(config, d, v, context.carry)

    real, fakes = on_both(config.model, function, x, fake, context.key)
    loss_real = real.mean()
    shortfall = config.objective.margin - fakes
    return loss_real + jnp.maximum(0.0, shortfall).mean(), loss_real


def _generator(config: Config, d: Params, fake: Array, context: Context) -> tuple[Array, Array]:
    loss_fake = energies(config, d, fake, context.carry).mean()
    return loss_fake, loss_fake


def _generator_pt(config: Config, d: Params, fake: Array, context: Context) -> tuple[Array, Array]:
    loss_fake = energies(config, d, fake, context.carry).mean()
    codes = models.encode(config.model, d, fake, context.carry)
    return loss_fake + config.objective.pt_weight * pulling_away(codes), loss_fake


OBJECTIVE = Objective(_discriminator, _generator, is_controlled=False)
OBJECTIVE_PT = OBJECTIVE._replace(generator=_generator_pt)
