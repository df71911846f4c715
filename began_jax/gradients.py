"""The gradients of L_D and L_G, each with respect to its own network alone.

`discriminator` and `generator` follow the objective line by line. `joint` serves the case that D
and G see the same fakes and L_D = L(x) − k L(G(z)), L_G = L(G(z)): one pass forward and back
through D then yields both networks' gradients.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array
from jax import numpy as jnp

from began_jax import models, objectives
from began_jax.models import Params
from began_jax.objectives import Context
from began_jax.objectives.objective import Energy, energies
from began_jax.schema import Config

_SMALLEST_K = 2.0**-30


class JointGradients(NamedTuple):
    """Both networks' losses and gradients; losses are float32 scalars."""

    loss_real: Array
    loss_fake: Array
    discriminator: Params
    generator: Params


def discriminator(
    config: Config, d: Params, g: Params, x: Array, z: Array, context: Context
) -> tuple[Array, Params]:
    """L(x) and the gradient of L_D with respect to D's parameters `d`.

    Args:
      x: real images (B, R, R, C) around [−0.5, 0.5].
      z: latents z_D (B, N_z).
    """
    fake = jax.lax.stop_gradient(models.generate(config.model, g, z, context.carry))
    loss = objectives.of(config).discriminator
    grads, loss_real = jax.grad(lambda d: loss(config, d, x, fake, z, context), has_aux=True)(d)
    return loss_real, grads


def generator(
    config: Config, d: Params, g: Params, z: Array, context: Context
) -> tuple[Array, Params]:
    """L(G(z)) and the gradient of L_G with respect to G's parameters `g`; z is z_G."""

    def loss(g: Params) -> tuple[Array, Array]:
        fake = models.generate(config.model, g, z, context.carry)
        return objectives.of(config).generator(config, d, fake, context)

    grads, loss_fake = jax.grad(loss, has_aux=True)(g)
    return loss_fake, grads


def joint(
    config: Config, energy: Energy, d: Params, g: Params, x: Array, z: Array, context: Context
) -> JointGradients:
    """Both gradients for z_D = z_G = z and the objective `of_energy(energy)`, at three quarters of
    the work.

    L_D = L(x) − k L(G(z)) is differentiated once, with respect to D's parameters and the fakes
    together. The second gradient is −k ∇L_G: divided by −k it goes on through G. Where k is 0, k is
    2^-30, which changes D's gradient by less than its rounding.
    """
    k = jnp.maximum(context.k, _SMALLEST_K)
    fake, pull_back = jax.vjp(lambda g: models.generate(config.model, g, z, context.carry), g)

    def loss(d: Params, fake: Array) -> tuple[Array, tuple[Array, Array]]:
        loss_real, loss_fake = energies(energy, config, d, x, fake, context)
        return loss_real - k * loss_fake, (loss_real, loss_fake)

    (grads_d, fake_bar), (loss_real, loss_fake) = jax.grad(loss, argnums=(0, 1), has_aux=True)(
        d, fake
    )
    (grads_g,) = pull_back(fake_bar / -k)
    return JointGradients(loss_real, loss_fake, grads_d, grads_g)


def mean_over_parts(function: Callable[..., Any], num_parts: int, *batches: Array) -> Any:
    """Gradient accumulation: the mean of a function's results, a tree, over parts of the batches.

    Of a mean over the batch, and so of its gradients, it is the value for the whole batch up to
    rounding, in the memory of one part.

    Args:
      function: of a part (B / num_parts, ...) of each batch.
      batches: arrays (B, ...). Row i goes to part i mod num_parts, so that each device has its
        share of each part of a batch that is split over devices in blocks.
    """
    if num_parts == 1:
        return function(*batches)
    parts = [
        jnp.moveaxis(batch.reshape(-1, num_parts, *batch.shape[1:]), 1, 0) for batch in batches
    ]

    def add(total: Any, part: list[Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(*part)), None

    shapes = jax.eval_shape(function, *(part[0] for part in parts))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda leaf: leaf / num_parts, total)
