"""The gradients of L_D and L_G, each with respect to its own network alone.

`discriminator` and `generator` follow the paper line by line. `joint` serves the case that D and G
see the same fakes: one pass forward and back through D then yields both networks' gradients.
"""

import functools
from typing import NamedTuple

import jax
from jax import Array

from began_jax import losses, models
from began_jax.config import Config
from began_jax.models import Params


class JointGradients(NamedTuple):
    """Both networks' losses and gradients; losses are float32 scalars."""

    loss_real: Array
    loss_fake: Array
    discriminator: Params
    generator: Params


def discriminator(
    config: Config, d: Params, g: Params, x: Array, z: Array, k: Array, carry: Array | None
) -> tuple[Array, Params]:
    """L(x) and the gradient of L_D = L(x) − k L(G(z)) with respect to D's parameters `d`.

    Args:
      x: real images (B, R, R, C) around [−0.5, 0.5].
      z: latents z_D (B, N_z).
      k: k_t.
      carry: the vanishing residual's weight, or None.
    """
    fake = jax.lax.stop_gradient(models.generate(config.model, g, z, carry))

    def loss(d: Params) -> tuple[Array, Array]:
        loss_real = _error(config, carry, d, x)
        loss_fake = _error(config, carry, d, fake)
        return losses.discriminator_loss(loss_real, loss_fake, k), loss_real

    grads, loss_real = jax.grad(loss, has_aux=True)(d)
    return loss_real, grads


def generator(
    config: Config, d: Params, g: Params, z: Array, carry: Array | None
) -> tuple[Array, Params]:
    """L(G(z)) and the gradient of L_G = L(G(z)) with respect to G's parameters `g`; z is z_G."""

    def loss(g: Params) -> Array:
        fake = models.generate(config.model, g, z, carry)
        return losses.generator_loss(_error(config, carry, d, fake))

    return jax.value_and_grad(loss)(g)


def joint(
    config: Config, d: Params, g: Params, x: Array, z: Array, k: Array, carry: Array | None
) -> JointGradients:
    """Both gradients for z_D = z_G = z, at three quarters of the work.

    L(G(z)) is differentiated once, with respect to D's parameters and the fakes together: the first
    enters ∇L_D = ∇L(x) − k ∇L(G(z)), the second goes on through G. Valid at k = 0 too.
    """
    generate = functools.partial(models.generate, config.model, z=z, carry=carry)
    error = functools.partial(_error, config, carry)
    fake, pull_back = jax.vjp(lambda g: generate(g), g)
    loss_real, grads_real = jax.value_and_grad(error)(d, x)
    loss_fake, (grads_fake, fake_bar) = jax.value_and_grad(error, argnums=(0, 1))(d, fake)
    (grads_g,) = pull_back(fake_bar)
    grads_d = jax.tree.map(lambda real, fake: real - k * fake, grads_real, grads_fake)
    return JointGradients(loss_real, loss_fake, grads_d, grads_g)


def _error(config: Config, carry: Array | None, d: Params, v: Array) -> Array:
    reconstruction = models.reconstruct(config.model, d, v, carry)
    return losses.reconstruction_error(v, reconstruction, config.began.eta)
