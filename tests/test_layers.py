import jax
import numpy as np
import pytest
from jax import numpy as jnp

from began_jax.models import layers

FORMS = ["plain", "phases", "transposed", "winograd"]


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


conv = jax.jit(layers.conv, static_argnames=("form", "factor", "stride"))


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


# Enough rows and columns for two tiles, not square, and an odd number of channels.
SHAPES = {
    "few in": (8, 16, 3, 9),
    "few out": (16, 12, 9, 3),
    "many": (16, 12, 9, 10),
    "small": (8, 8, 9, 10),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", SHAPES)
def test_conv_is_the_definition(case, form):
    h, w, c, n = SHAPES[case]
    x, kernel = draw(0, 2, h, w, c), draw(1, 3, 3, c, n)
    # 9c terms of size 1 in float32; the matrices of F43 multiply rounding by up to a hundred.
    np.testing.assert_allclose(conv(x, kernel, form), slow_conv(x, kernel), atol=3e-4)


@pytest.mark.parametrize("form", FORMS)
def test_a_stride_takes_the_even_rows_and_columns(form):
    x, kernel = draw(0, 2, 8, 12, 9), draw(1, 3, 3, 9, 10)
    expected = slow_conv(x, kernel)[:, ::2, ::2]
    np.testing.assert_allclose(conv(x, kernel, form, stride=2), expected, atol=3e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("factor", [2, 4, 8, 32])
def test_conv_of_an_upsampled_map_is_the_definition(factor, form):
    x, kernel = draw(0, 2, 3, 2, 3), draw(1, 3, 3, 3, 5)
    expected = slow_conv(slow_upsample(x, factor), kernel)
    # 27 terms of size 1 in float32.
    np.testing.assert_allclose(conv(x, kernel, form, factor=factor), expected, atol=3e-5)


def gradients(function, x, kernel):
    y, pull_back = jax.vjp(function, x, kernel)
    return pull_back(draw(2, *y.shape))


@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"factor": 2},
        pytest.param({"factor": 4}, marks=pytest.mark.slow),
    ],
    ids=["1", "stride", "×2", "×4"],
)
@pytest.mark.parametrize("case", SHAPES)
def test_the_gradients_of_a_form_are_the_plain_ones(case, options, form):
    h, w, c, n = SHAPES[case]
    x, kernel = draw(0, 2, h, w, c), draw(1, 3, 3, c, n)
    pairs = zip(
        gradients(lambda x, kernel: conv(x, kernel, form, **options), x, kernel),
        gradients(lambda x, kernel: conv(x, kernel, "plain", **options), x, kernel),
        strict=True,
    )
    for a, b in pairs:
        # Sums in another order, and F43's matrices; relative to the largest value.
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


def test_elu_and_bias_have_the_library_s_values_and_gradients():
    x, bias = 3 * draw(0, 4, 5, 6, 7), draw(1, 7)

    def through(form):
        def f(x, bias):
            return layers.elu(layers.add_up([x, 2 * x], bias, form), form)

        return f(x, bias), *gradients(f, x, bias)

    for ours, library in zip(through("winograd"), through("plain"), strict=True):
        # y + 1 instead of exp(x): a rounding of 1; the bias' gradient sums 120 of them.
        np.testing.assert_allclose(ours, library, atol=2e-5)


@pytest.mark.parametrize("form", FORMS[:3])
def test_the_gradient_of_a_bias_is_summed_in_float32(form):
    x = jnp.zeros((4, 64, 64, 2), jnp.bfloat16)

    def total(bias):
        return layers.add_up([x, x], bias, form).astype(jnp.float32).sum()

    assert layers.add_up([x, x], jnp.zeros(2), form).dtype == jnp.bfloat16
    # In bfloat16 a sum of ones ends at 256.
    np.testing.assert_array_equal(jax.grad(total)(jnp.zeros(2)), 4 * 64 * 64)


@pytest.mark.parametrize("form", ["phases", "transposed"])
def test_sums_of_taps_are_rounded_once(form):
    x = jnp.ones((1, 2, 2, 1), jnp.bfloat16)
    kernel = draw(1, 3, 3, 1, 1)
    exact = slow_conv(slow_upsample(x, 2), kernel)
    y = layers.conv(x, kernel, form, factor=2)
    assert y.dtype == jnp.bfloat16
    # At (1, 1) all reads meet the same value: four sums, each rounded once, relative 2^-9.
    np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=2**-8 * np.abs(kernel).sum())
