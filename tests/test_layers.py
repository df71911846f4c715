import jax
import numpy as np
import pytest
from jax import numpy as jnp

from began_jax.models import layers


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def slow_conv(x, kernel):
    """The definition, in float64 NumPy."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.einsum("bhwcij,ijcn->bhwn", windows, kernel)


def slow_upsample(x, factor):
    return np.repeat(np.repeat(np.asarray(x), factor, axis=1), factor, axis=2)


def test_upsample_repeats_rows_and_columns():
    x = draw(0, 2, 3, 5, 2)
    np.testing.assert_array_equal(layers.upsample(x, 4), slow_upsample(x, 4))


@pytest.mark.parametrize("stride", [1, 2])
def test_conv_is_the_definition_and_a_stride_takes_the_even_rows_and_columns(stride):
    x, kernel = draw(0, 2, 6, 4, 3), draw(1, 3, 3, 3, 5)
    expected = slow_conv(x, kernel)[:, ::stride, ::stride]
    np.testing.assert_allclose(layers.conv(x, kernel, stride=stride), expected, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4, 8, 32])
def test_conv_of_an_upsampled_map_is_the_definition(factor):
    x, kernel = draw(0, 2, 3, 2, 3), draw(1, 3, 3, 3, 5)
    expected = slow_conv(slow_upsample(x, factor), kernel)
    # 27 terms of size 1 in float32.
    np.testing.assert_allclose(layers.conv(x, kernel, factor=factor), expected, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4])
def test_gradients_of_an_upsampled_maps_conv_are_the_plain_ones(factor):
    x, kernel = draw(0, 2, 4, 4, 3), draw(1, 3, 3, 3, 5)
    weights = draw(2, 2, 4 * factor, 4 * factor, 5)

    def ours(x, kernel):
        return jnp.vdot(weights, layers.conv(x, kernel, factor=factor))

    def plain(x, kernel):
        return jnp.vdot(weights, layers.conv(layers.upsample(x, factor), kernel))

    for a, b in zip(*(jax.grad(f, (0, 1))(x, kernel) for f in (ours, plain)), strict=True):
        # Sums of up to 512 terms of size 1 in another order.
        np.testing.assert_allclose(a, b, atol=1e-4)
