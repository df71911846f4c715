"""The algorithms along one axis, where they can be checked in exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from began_jax.models import winograd

# Algorithm, how it reads its input, and the stride of the convolution it stands for.
ALGORITHMS = {
    "F43": (winograd.F43, 1, 1),
    "strided": (winograd.STRIDED, 1, 2),
    "×2": (winograd.upsampled(2), 2, 1),
    "×8": (winograd.upsampled(8), 8, 1),
}


def exact(matrix):
    return np.array([[Fraction(v).limit_denominator(24) for v in row] for row in matrix])


def units(num):
    return [[Fraction(int(i == j)) for j in range(num)] for i in range(num)]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_tile_is_the_convolution_exactly(name):
    algorithm, factor, stride = ALGORITHMS[name]
    a, b, g = (exact(matrix) for matrix in (algorithm.a, algorithm.b, algorithm.g))
    # Bilinear, so that it is enough to try unit windows and unit kernels.
    for window in units(b.shape[1]):
        repeated = np.repeat(window, factor)[factor - 1 :]  # from one pixel before the tile
        for kernel in units(3):
            starts = range(0, stride * len(a), stride)
            expected = [np.dot(repeated[i : i + 3], kernel) for i in starts]
            assert list(a @ ((g @ kernel) * (b @ window))) == expected


@pytest.mark.parametrize("name", ALGORITHMS)
def test_it_takes_fewer_multiplications(name):
    algorithm, factor, stride = ALGORITHMS[name]
    outputs = algorithm.step * factor / stride
    assert len(algorithm.a) == outputs
    assert len(algorithm.b) < 3 * outputs
