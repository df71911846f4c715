"""What an objective is, and how it is made of a measure of single images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array
from jax import numpy as jnp

from began_jax.models import Params
from began_jax.schema import Config, ModelConfig


class Context(NamedTuple):
    """What a step's losses depend on besides parameters and batches."""

    k: Array  # k_t, float32
    carry: Array | None  # the vanishing residual's weight; None: off
    step: Array  # int32, steps done
    key: Array  # of the noise, where there is any


# (config, D's parameters, images (B, R, R, C), context, keys) to the terms (B,) of a mean, float32.
# `keys` (P,): the noise of image i, where there is any, is drawn from key i mod P (`normal`).
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
        loss_real, loss_fake = energies(energy, config, d, x, fake, context)
        return loss_real - context.k * loss_fake, loss_real

    def generator(config: Config, d: Params, fake: Array, context: Context) -> tuple[Array, Array]:
        key_fake = jax.random.split(context.key)[1:]
        loss_fake = energy(config, d, fake, context, key_fake).mean()
        return loss_fake, loss_fake

    return Objective(discriminator, generator, energy)


def energies(
    energy: Energy, config: Config, d: Params, x: Array, fake: Array, context: Context
) -> tuple[Array, Array]:
    """Return L(x) and L(G(z)), float32 scalars, from one batch of both."""

    def function(v: Array, keys: Array) -> Array:
        return energy(config, d, v, context, keys)

    real, fakes = on_both(config.model, function, x, fake, context.key)
    return real.mean(), fakes.mean()


def on_both(
    config: ModelConfig, function: Callable[[Array, Array], Any], x: Array, fake: Array, key: Array
) -> tuple[Any, Any]:
    """Return `function` of x and of the fakes, in as few operations as suit the device.

    With conv="transposed", the algorithm for accelerators, both are one batch of 2B: D's operations
    are half as many and twice as large. They alternate in that batch, so that devices which share x
    and the fakes share the batch in the same way. A CPU computes two batches of B faster.

    Args:
      function: of images (N, R, R, C) and keys (P,), see `Energy`, to a tree of arrays (N, ...), of
        which row i depends on image i alone.
      x: (B, R, R, C).
      fake: of the same shape.
      key: of the noise.
    """
    keys = jax.random.split(key)  # for x, for the fakes
    if config.conv != "transposed":
        return function(x, keys[:1]), function(fake, keys[1:])
    both = jnp.stack([x, fake], axis=1).reshape(-1, *x.shape[1:])
    results = jax.tree.map(lambda y: y.reshape(-1, 2, *y.shape[1:]), function(both, keys))
    return jax.tree.map(lambda y: y[:, 0], results), jax.tree.map(lambda y: y[:, 1], results)


def normal(keys: Array, shape: tuple[int, ...]) -> Array:
    """Return normal noise (B, ...), σ = 1, where row i is drawn from key i mod P of `keys` (P,)."""
    part = (shape[0] // len(keys), *shape[1:])
    return jax.vmap(lambda key: jax.random.normal(key, part), out_axes=1)(keys).reshape(shape)
