"""3×3 convolutions of up-sampled maps, computed at the low resolution.

Nearest-neighbour up-sampling repeats each value, so a convolution that reads several copies of one
may add their weights first: along one axis a window (w0, w1, w2) reads, at the first copy of value
i, w0 of value i − 1 and w1 + w2 of value i; between, all three of value i; at the last copy,
w0 + w1 of value i and w2 of value i + 1. Exact algebra: results differ by rounding alone.
"""

from typing import NamedTuple

import jax
from jax import Array
from jax import numpy as jnp


class _Phase(NamedTuple):
    """How a window reads repeated values, along one axis."""

    sums: tuple[tuple[int, int], ...]  # for each value read, the taps [start, stop) of its weight
    padding: tuple[int, int]


_FIRST = _Phase(((0, 1), (1, 3)), (1, 0))
_BETWEEN = _Phase(((0, 3),), (0, 0))
_LAST = _Phase(((0, 2), (2, 3)), (0, 1))


def conv(x: Array, kernel: Array, factor: int) -> Array:
    """The convolution of x (B, H, W, C), up-sampled by a power of two, with (3, 3, C, N).

    Taps are added in the kernel's dtype, their sums rounded to x's. One pixel of zeros surrounds
    the up-sampled map. Returns (B, factor·H, factor·W, N).
    """
    phases = (_FIRST, _LAST) if factor == 2 else (_FIRST, _BETWEEN, _LAST)
    rows = []
    for row in phases:
        row_kernel = _add_taps(kernel, row.sums, axis=0)
        columns = []
        for column in phases:
            merged = _add_taps(row_kernel, column.sums, axis=1).astype(x.dtype)
            columns.append(_conv(x, merged, (row.padding, column.padding)))
        rows.append(_interleave(columns, factor, axis=3))
    b, h, w, _ = x.shape
    return _interleave(rows, factor, axis=2).reshape(b, factor * h, factor * w, kernel.shape[-1])


def _conv(x: Array, kernel: Array, padding: tuple[tuple[int, int], tuple[int, int]]) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _add_taps(kernel: Array, sums: tuple[tuple[int, int], ...], axis: int) -> Array:
    taps = [
        jax.lax.slice_in_dim(kernel, start, stop, axis=axis).sum(axis, keepdims=True)
        for start, stop in sums
    ]
    return jnp.concatenate(taps, axis)


def _interleave(phases: list[Array], factor: int, axis: int) -> Array:
    """Stacks the phases along a new axis: the first, the one between factor − 2 times, the last."""
    if len(phases) == 3:
        phases = [phases[0], *[phases[1]] * (factor - 2), phases[2]]
    return jnp.stack(phases, axis)
