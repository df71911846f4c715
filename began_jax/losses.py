"""The reconstruction error (paper, section 3.1), which most objectives are made of."""

from jax import Array
from jax import numpy as jnp


def reconstruction_errors(v: Array, reconstruction: Array, eta: int) -> Array:
    """Return the mean over height, width and channels of |v − D(v)|^η for each image.

    Args:
      v: images (B, H, W, C), pixel values around [−0.5, 0.5].
      reconstruction: D(v), of the same shape.
      eta: η, 1 or 2.

    Returns:
      float32 (B,), whatever the inputs' dtype. Their mean is the paper's L.
    """
    difference = v.astype(jnp.float32) - reconstruction.astype(jnp.float32)
    powers = jnp.abs(difference) if eta == 1 else jnp.square(difference)
    return powers.mean((1, 2, 3))
