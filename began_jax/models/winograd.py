"""3×3 convolutions with fewer multiplications than their definition, as matrix products.

A bilinear algorithm (Winograd, 1980; for convolutional networks Lavin and Gray, arXiv 1509.09308)
computes a convolution along one axis in tiles:

    y = A ((G w) ∘ (B x)),        w the 3 taps, x the tile's window, y its outputs

with constant matrices of small numbers. Along both axes, and with channels, the element-wise
product becomes one matrix product over the channels for each pair of rows of B:

    multiplications a value of y:   plain   F43    upsampled(2)   STRIDED
                                    9       2.25   2.25           6.25

Exact algebra: results differ from the definition's by rounding, for F43, whose matrices are the
least benign, by about 1e-5 of the largest value. Worth it where a matrix product is much faster
than the passes over memory around it are slow: on a CPU.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax import Array
from jax import numpy as jnp

Matrix = tuple[tuple[float, ...], ...]


class Algorithm(NamedTuple):
    """A bilinear algorithm along one axis; tile t's window begins at input step · t − 1."""

    b: Matrix  # (products, window)
    g: Matrix  # (products, 3)
    a: Matrix  # (outputs, products)
    step: int  # inputs from one tile to the next


# Four outputs of a convolution; interpolation at 0, ±1, ±2 and ∞.
F43 = Algorithm(
    b=(
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    g=(
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    a=((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
    step=4,
)

# Two outputs of a convolution of stride 2: the middle tap reads the even inputs; the outer two are
# a convolution of two taps over the odd ones, three products for two outputs.
STRIDED = Algorithm(
    b=(
        (0, 1, 0, 0, 0),
        (0, 0, 0, 1, 0),
        (1, 0, -1, 0, 0),
        (0, 0, 1, 0, 0),
        (0, 0, -1, 0, 1),
    ),
    g=((0, 1, 0), (0, 1, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)),
    a=((1, 0, 1, 1, 0), (0, 1, 0, 1, 1)),
    step=4,
)


def upsampled(factor: int) -> Algorithm:
    """The `factor` outputs that one value of a map gives when it is repeated so often.

    All three taps read the value itself but at its first copy, where w0 reads the one before, and
    at its last, where w2 reads the one after: with S = w0 + w1 + w2
        first: S x_i + w0 (x_{i−1} − x_i), between: S x_i, last: S x_i + w2 (x_{i+1} − x_i).
    """
    return Algorithm(
        b=((0, 1, 0), (1, -1, 0), (0, -1, 1)),
        g=((1, 1, 1), (1, 0, 0), (0, 0, 1)),
        a=((1, 1, 0), *[(1, 0, 0)] * (factor - 2), (1, 0, 1)),
        step=1,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def conv(algorithm: Algorithm, x: Array, kernel: Array) -> Array:
    """The algorithm's convolution of x (B, H, W, C) with a kernel (3, 3, C, N).

    H and W are multiples of `step`; one pixel of zeros surrounds x. Returns
    (B, H · outputs / step, W · outputs / step, N).
    """
    assert x.shape[1] % algorithm.step == x.shape[2] % algorithm.step == 0, x.shape
    windows = _read_windows(algorithm, x)
    weights = _weigh(algorithm, kernel)
    products = jnp.einsum("pmc,pcn->pmn", _flatten(windows), _flatten(weights))
    return _write_outputs(algorithm, products.reshape(*windows.shape[:-1], -1))


def _forward(algorithm: Algorithm, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return conv(algorithm, x, kernel), (x, kernel)


def _backward(
    algorithm: Algorithm, residuals: tuple[Array, Array], y_bar: Array
) -> tuple[Array, Array]:
    """The transposes of the three transforms, written out as JAX's own make slow scatters."""
    # Without the barrier XLA keeps all layers' windows, which are larger than x.
    x, kernel, y_bar = jax.lax.optimization_barrier((*residuals, y_bar))
    windows, weights = _read_windows(algorithm, x), _weigh(algorithm, kernel)
    products_bar = _flatten(_read_outputs(algorithm, y_bar))
    windows_bar = jnp.einsum("pmn,pcn->pmc", products_bar, _flatten(weights))
    weights_bar = jnp.einsum("pmc,pmn->pcn", _flatten(windows), products_bar)
    return (
        _write_windows(algorithm, windows_bar.reshape(windows.shape)),
        _unweigh(algorithm, weights_bar.reshape(weights.shape)),
    )


conv.defvjp(_forward, _backward)


def _weigh(algorithm: Algorithm, kernel: Array) -> Array:
    """(3, 3, C, N) to (P, P, C, N), P the number of products."""
    return _along_both(algorithm.g, kernel)


def _unweigh(algorithm: Algorithm, weights: Array) -> Array:
    """The transpose of `_weigh`."""
    return _along_both(_transpose(algorithm.g), weights)


def _along_both(matrix: Matrix, x: Array) -> Array:
    """The matrix times x along its first and its second axis; as a product XLA is slow at it."""
    rows = jnp.stack(_combine(matrix, _unstack(x, axis=0)))
    return jnp.stack(_combine(matrix, _unstack(rows, axis=1)), 1)


def _flatten(x: Array) -> Array:
    """(P, P, ..., C) to (P · P, -1, C), as XLA would transpose products of more axes."""
    return x.reshape(x.shape[0] ** 2, -1, x.shape[-1])


def _read_windows(algorithm: Algorithm, x: Array) -> Array:
    """Maps (B, H, W, C) to what the products read, (P, P, B, H / step, W / step, C)."""
    padding = (1, len(algorithm.b[0]) - 1 - algorithm.step)
    padded = jnp.pad(x, ((0, 0), padding, padding, (0, 0)))
    rows = jnp.stack(_combine(algorithm.b, _windows(algorithm, padded, axis=1)))
    return jnp.stack(_combine(algorithm.b, _windows(algorithm, rows, axis=3)), 1)


def _write_windows(algorithm: Algorithm, windows: Array) -> Array:
    """The transpose of `_read_windows`."""
    b = _transpose(algorithm.b)
    rows = _add_windows(algorithm, _combine(b, _unstack(windows, axis=1)), axis=3)
    return _add_windows(algorithm, _combine(b, _unstack(rows, axis=0)), axis=1)


def _write_outputs(algorithm: Algorithm, products: Array) -> Array:
    """Products (P, P, B, H, W, N) to a map (B, H · outputs, W · outputs, N)."""
    rows = _interleave(_combine(algorithm.a, _unstack(products, axis=1)), axis=3)
    return _interleave(_combine(algorithm.a, _unstack(rows, axis=0)), axis=1)


def _read_outputs(algorithm: Algorithm, y: Array) -> Array:
    """The transpose of `_write_outputs`."""
    a = _transpose(algorithm.a)
    num = len(algorithm.a)
    rows = jnp.stack(_combine(a, [_every(y, r, num, axis=1) for r in range(num)]))
    return jnp.stack(_combine(a, [_every(rows, r, num, axis=3) for r in range(num)]), 1)


def _combine(matrix: Matrix, parts: Sequence[Array]) -> list[Array]:
    """The matrix times a vector of arrays."""
    combined = []
    for row in matrix:
        terms = [term for term in zip(row, parts, strict=True) if term[0]]
        terms.sort(key=lambda term: term[0] < 0)  # so that one term at most is negated
        total = _scale(*terms[0])
        for factor, part in terms[1:]:
            scaled = _scale(abs(factor), part)
            total = total + scaled if factor > 0 else total - scaled
        combined.append(total)
    return combined


def _scale(factor: float, part: Array) -> Array:
    return part if factor == 1 else factor * part


def _windows(algorithm: Algorithm, padded: Array, axis: int) -> list[Array]:
    """For each place of a window its value in every tile."""
    num, step = len(algorithm.b[0]), algorithm.step
    last = padded.shape[axis] - num + 1
    return [jax.lax.slice_in_dim(padded, r, r + last, step, axis) for r in range(num)]


def _add_windows(algorithm: Algorithm, parts: Sequence[Array], axis: int) -> Array:
    """The transpose of `_windows`, less the padding."""
    sums: list[Array] = []
    for r in [*range(1, algorithm.step + 1), 0, *range(algorithm.step + 1, len(parts))]:
        tile, place = divmod(r - 1, algorithm.step)
        if tile == 0:
            sums.append(parts[r])
        else:
            sums[place] = sums[place] + _shift(parts[r], tile, axis)
    return _interleave(sums, axis)


def _shift(x: Array, by: int, axis: int) -> Array:
    """Moves x by places along an axis; zeros come in, what leaves is dropped."""
    size = x.shape[axis]
    padding = [(0, 0)] * x.ndim
    padding[axis] = (max(by, 0), max(-by, 0))
    return jax.lax.slice_in_dim(jnp.pad(x, padding), max(-by, 0), max(-by, 0) + size, axis=axis)


def _every(x: Array, first: int, num: int, axis: int) -> Array:
    return jax.lax.slice_in_dim(x, first, None, num, axis)


def _interleave(parts: Sequence[Array], axis: int) -> Array:
    """One array of values in turn; the transpose of taking `_every`."""
    y = jnp.stack(parts, axis + 1)
    return y.reshape(*y.shape[:axis], -1, *y.shape[axis + 2 :])


def _unstack(x: Array, axis: int) -> list[Array]:
    return [jax.lax.index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis])]


def _transpose(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))
