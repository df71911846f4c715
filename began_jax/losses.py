"""The reconstruction error (paper, section 3.1), which most objectives are made of."""

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
