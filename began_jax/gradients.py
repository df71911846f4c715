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
from began_jax.objectives.objective import Energy
from began_jax.schema import Config


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

    L(G(z)) is differentiated once, with respect to D's parameters and the fakes together: the first
    enters ∇L_D = ∇L(x) − k ∇L(G(z)), the second goes on through G. Valid at k = 0 too.
    """
    key_real, key_fake = jax.random.split(context.key)

    def error(d: Params, v: Array, key: Array) -> Array:
        return energy(config, d, v, context, key)

    fake, pull_back = jax.vjp(lambda g: models.generate(config.model, g, z, context.carry), g)
    loss_real, grads_real = jax.value_and_grad(error)(d, x, key_real)
    loss_fake, (grads_fake, fake_bar) = jax.value_and_grad(error, argnums=(0, 1))(d, fake, key_fake)
    (grads_g,) = pull_back(fake_bar)
    grads_d = jax.tree.map(lambda real, fake: real - context.k * fake, grads_real, grads_fake)
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
