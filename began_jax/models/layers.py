"""The layers' arithmetic, in the forms that `config.model.conv` names.

"plain" is the definition. "phases" computes the convolution of an up-sampled map at the low
resolution (`phases`), "transposed" as one transposed convolution (`transposed`). "winograd"
computes convolutions as matrix products: by the algorithms of `winograd` or, where an image's few
channels go in or out, by its nine shifts; but for those at 8×8. The forms give
the same results up to rounding.
"""

import functools
from collections.abc import Sequence

import jax
from jax import Array
from jax import numpy as jnp

from began_jax.models import phases, transposed, winograd

# Below so many channels in or out (an image's), nine shifts beat the tiles of `winograd`.
_FEW = 8
# Maps of this side or smaller go to the library's convolution.
_SMALL = 8


def upsample(x: Array, factor: int) -> Array:
    """Nearest-neighbour up-sampling of (B, H, W, C) to (B, factor·H, factor·W, C)."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, factor, w, factor, c))
    return x.reshape(b, factor * h, factor * w, c)


def conv(x: Array, kernel: Array, form: str, *, factor: int = 1, stride: int = 1) -> Array:
    """A 3×3 convolution, with one pixel of zero padding, of `upsample(x, factor)`.

    Args:
      x: (B, H, W, C).
      kernel: (3, 3, C, N); float32 where x is bfloat16: it is rounded where it meets x.
      form: "plain" (so is an "auto" that nobody resolved), "phases", "transposed" or
        "winograd".
      factor: 1 or a power of two.
      stride: 1 or, where the factor is 1, 2: the even rows and columns of the result.

    Returns:
      (B, factor·H / stride, factor·W / stride, N).
    """
    assert stride == 1 or factor == 1
    if form == "phases" and factor > 1:
        return phases.conv(x, kernel, factor)
    if form == "transposed" and factor > 1:
        return transposed.conv(x, kernel, factor)
    kernel = kernel.astype(x.dtype)
    if form == "winograd":
        return _products(x, kernel, factor, stride)
    return _library(upsample(x, factor), kernel, stride)


def elu(x: Array, form: str) -> Array:
    """x where it is positive, exp(x) − 1 elsewhere."""
    return _elu(x) if form == "winograd" else jax.nn.elu(x)


def add_up(shares: Sequence[Array], bias: Array, form: str) -> Array:
    """The sum of maps (B, H, W, N) and a float32 bias (N,), of the maps' dtype.

    The bias is added in float32, so that its gradient, a sum over all pixels, is one of float32:
    in bfloat16 a sum ends where a term is less than its rounding.
    """
    total = functools.reduce(jnp.add, shares)
    if form == "winograd":
        return _add_bias(total, bias)
    return (total + bias).astype(total.dtype)


def _library(x: Array, kernel: Array, stride: int = 1) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _products(x: Array, kernel: Array, factor: int, stride: int) -> Array:
    """The convolution as matrix products, each in the cheapest way."""
    if factor > 1:
        return winograd.conv(winograd.upsampled(factor), x, kernel)
    if stride == 2:
        return winograd.conv(winograd.STRIDED, x, kernel)
    num_in, num_out = kernel.shape[2:]
    if num_in < _FEW:
        return _from_few(x, kernel)
    if num_out < _FEW:
        return _to_few(x, kernel)
    if x.shape[1] <= _SMALL:
        return _library(x, kernel)
    return winograd.conv(winograd.F43, x, kernel)


def _from_few(x: Array, kernel: Array) -> Array:
    """Nine shifted copies of each of the few planes, times the kernel as one matrix."""
    planes = _shift(jnp.moveaxis(x, -1, 0))
    matrix = kernel.reshape(-1, kernel.shape[-1])
    y = jnp.einsum("km,kn->mn", planes.reshape(len(matrix), -1), matrix)
    return y.reshape(*x.shape[:-1], -1)


def _to_few(x: Array, kernel: Array) -> Array:
    """The kernel as one matrix gives nine planes for each of the few, summed when shifted."""
    channels, num = kernel.shape[2:]
    matrix = jnp.swapaxes(kernel, 2, 3).reshape(-1, channels)
    planes = jnp.einsum("kc,mc->km", matrix, x.reshape(-1, channels))
    return jnp.moveaxis(_add_shifted(planes.reshape(9, num, *x.shape[:-1])), 0, -1)


@jax.custom_vjp
def _shift(planes: Array) -> Array:
    """What each of the nine taps reads of planes (..., H, W) within a border of zeros."""
    return jnp.stack(_shifts(planes))


@jax.custom_vjp
def _add_shifted(planes: Array) -> Array:
    """The sum over the taps of what each reads of its own planes (9, ..., H, W)."""
    return functools.reduce(jnp.add, [read[i] for i, read in enumerate(_shifts(planes))])


def _shifts(planes: Array) -> list[Array]:
    h, w = planes.shape[-2:]
    padded = jnp.pad(planes, [(0, 0)] * (planes.ndim - 2) + [(1, 1), (1, 1)])
    return [padded[..., i : i + h, j : j + w] for i in range(3) for j in range(3)]


# Each is the other's transpose, where the taps are taken from the last. The barrier lets XLA not
# compute what is shifted nine times.
_shift.defvjp(
    lambda planes: (_shift(planes), None),
    lambda _, y_bar: (_add_shifted(jax.lax.optimization_barrier(y_bar)[::-1]),),
)
_add_shifted.defvjp(
    lambda planes: (_add_shifted(planes), None),
    lambda _, y_bar: (_shift(jax.lax.optimization_barrier(y_bar))[::-1],),
)


@jax.custom_vjp
def _elu(x: Array) -> Array:
    """Of the absolute error of float32 at 1, which the convolutions of this form have too."""
    return jnp.where(x > 0, x, jnp.exp(jnp.minimum(x, 0)) - 1)


def _elu_forward(x: Array) -> tuple[Array, Array]:
    y = _elu(x)
    return y, y


def _elu_backward(y: Array, y_bar: Array) -> tuple[Array]:
    """The derivative from the result, 1 or y + 1: the next layer keeps that in any case."""
    return (jnp.where(y > 0, y_bar, y_bar * (y + 1)),)


_elu.defvjp(_elu_forward, _elu_backward)


@jax.custom_vjp
def _add_bias(x: Array, bias: Array) -> Array:
    return x + bias


def _add_bias_backward(_: None, y_bar: Array) -> tuple[Array, Array]:
    """The sum as a product with ones: XLA:CPU's own is six times slower, and draws into its loop
    the computation of what it sums."""
    num = y_bar.size // y_bar.shape[-1]
    ones = jnp.ones((1, num), y_bar.dtype)
    return y_bar, (ones @ y_bar.reshape(num, -1))[0]


_add_bias.defvjp(lambda x, bias: (x + bias, None), _add_bias_backward)
