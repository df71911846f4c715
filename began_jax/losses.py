"""The reconstruction error and the two adversarial losses (paper, section 3.3)."""

from jax import Array
from jax import numpy as jnp


def reconstruction_error(v: Array, reconstruction: Array, eta: int) -> Array:
    """L(v) = mean over batch, height, width and channels of |v − D(v)|^η.

    Args:
      v: images (B, H, W, C), pixel values around [−0.5, 0.5].
      reconstruction: D(v), of the same shape.
      eta: η, 1 or 2.

    Returns:
      A float32 scalar, whatever the inputs' dtype.
    """
    difference = v.astype(jnp.float32) - reconstruction.astype(jnp.float32)
    return jnp.mean(jnp.abs(difference) if eta == 1 else jnp.square(difference))


def discriminator_loss(loss_real: Array, loss_fake: Array, k: Array) -> Array:
    """L_D = L(x) − k_t · L(G(z_D)); minimised over D's parameters alone."""
    return loss_real - k * loss_fake


def generator_loss(loss_fake: Array) -> Array:
    """L_G = L(G(z_G)); minimised over G's parameters alone."""
    return loss_fake
