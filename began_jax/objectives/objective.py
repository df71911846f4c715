"""What an objective is, and how it is made of a measure of single images."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import Array

from began_jax.models import Params
from began_jax.schema import Config, ModelConfig


class Context(NamedTuple):
    """What a step's losses depend on besides parameters and batches."""

    k: Array  # k_t, float32
    carry: Array | None  # the vanishing residual's weight; None: off
    step: Array  # int32, steps done
    key: Array  # of the noise, where there is any


# (config, D's parameters, images (B, R, R, C), context, key) to the batch's mean.
Energy = Callable[[Config, Params, Array, Context, Array], Array]


class Objective(NamedTuple):
    """Two losses, each minimised over its own network's parameters alone.

    All images are float32 (B, R, R, C) around [−0.5, 0.5]; what is returned are float32 scalars.
    """

    discriminator: Callable[[Config, Params, Array, Array, Array, Context], tuple[Array, Array]]
    """(config, D's parameters, x, G(z), z, context) to (L_D, L(x)); the fakes are constants."""

    generator: Callable[[Config, Params, Array, Context], tuple[Array, Array]]
    """(config, D's parameters, G(z), context) to (L_G, L(G(z)))."""

    energy: Energy | None = None
    """L, where L_D = L(x) − k L(G(z)) and L_G = L(G(z)): both gradients come of one pass then."""

    is_controlled: bool = True
    """Whether k_t enters; else the controller stands still."""

    num_outputs: Callable[[ModelConfig], int] = lambda model: model.code_size
    """Of D's encoder."""

    is_auto_encoder: bool = True
    """Whether D has a decoder, and so reconstructions."""


def of_energy(energy: Energy) -> Objective:
    """BEGAN's form: L_D = L(x) − k_t L(G(z_D)), L_G = L(G(z_G)), of any L."""

    def discriminator(
        config: Config, d: Params, x: Array, fake: Array, z: Array, context: Context
    ) -> tuple[Array, Array]:
        del z
        key_real, key_fake = jax.random.split(context.key)
        loss_real = energy(config, d, x, context, key_real)
        loss_fake = energy(config, d, fake, context, key_fake)
        return loss_real - context.k * loss_fake, loss_real

    def generator(config: Config, d: Params, fake: Array, context: Context) -> tuple[Array, Array]:
        _, key_fake = jax.random.split(context.key)
        loss_fake = energy(config, d, fake, context, key_fake)
        return loss_fake, loss_fake

    return Objective(discriminator, generator, energy)
