"""3×3 convolutions of up-sampled maps, each as one transposed convolution.

Nearest-neighbour up-sampling by f is a transposed convolution with f × f ones and stride f. A 3×3
convolution after it makes a transposed convolution with (f + 2) × (f + 2) taps: the FLOPs of
`phases`, in one call of the library, without the up-sampled map. Exact algebra: results differ by
rounding alone.
"""

import functools

import jax
from jax import Array
from jax import numpy as jnp


def conv(x: Array, kernel: Array, factor: int) -> Array:
    """Return the 3×3 convolution of `x`, up-sampled by `factor`.

    Taps are summed in the kernel's dtype and the sums rounded to x's. One pixel of zeros surrounds
    the up-sampled map.

    Args:
      x: (B, H, W, C).
      kernel: (3, 3, C, N).
      factor: 2 or more.

    Returns:
      (B, factor·H, factor·W, N).
    """
    merged = _merge_taps(_merge_taps(kernel, factor, axis=0), factor, axis=1)
    return _transposed(x, jnp.swapaxes(merged, 2, 3).astype(x.dtype), factor)


def _merge_taps(kernel: Array, factor: int, axis: int) -> Array:
    """Sum the taps with which each output reads one value, along one axis of 3 taps.

    The copies of value i are the outputs 0 to f − 1 of i, and output d reads copy d + t − 1 with
    tap t. Outputs −1 to f read any copy at all.

    Returns:
      The kernel with f + 2 taps along the axis, from output f to output −1: a transposed
      convolution reads its kernel in reverse.
    """
    taps = [jax.lax.index_in_dim(kernel, t, axis, keepdims=False) for t in range(3)]
    sums = [
        sum(tap for t, tap in enumerate(taps) if 0 <= d + t - 1 < factor)
        for d in range(-1, factor + 1)
    ]
    return jnp.stack([jnp.asarray(total) for total in sums], axis)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _transposed(x: Array, kernel: Array, factor: int) -> Array:
    """The transpose of `_strided`: (B, H, W, C) to (B, factor·H, factor·W, N)."""
    b, h, w, _ = x.shape
    fine = jax.ShapeDtypeStruct((b, factor * h, factor * w, kernel.shape[2]), x.dtype)
    (y,) = jax.linear_transpose(lambda y: _strided(y, kernel, factor), fine)(x)
    return y


def _forward(x: Array, kernel: Array, factor: int) -> tuple[Array, tuple[Array, Array]]:
    return _transposed(x, kernel, factor), (x, kernel)


def _backward(factor: int, saved: tuple[Array, Array], y_bar: Array) -> tuple[Array, Array]:
    """The strided convolution and its kernel's gradient.

    What JAX derives from `_transposed` is a convolution with a window as large as the map.
    """
    x, kernel = saved
    x_bar, pull_back = jax.vjp(lambda kernel: _strided(y_bar, kernel, factor), kernel)
    (kernel_bar,) = pull_back(x)
    return x_bar, kernel_bar


_transposed.defvjp(_forward, _backward)


def _strided(y: Array, kernel: Array, factor: int) -> Array:
    """(B, factor·H, factor·W, N) to (B, H, W, C); the kernel is (factor + 2, factor + 2, N, C)."""
    return jax.lax.conv_general_dilated(
        y,
        kernel,
        (factor, factor),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
