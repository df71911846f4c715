import numpy as np
from jax import numpy as jnp

from began_jax import generate, inversion, train_state
from tests.conftest import make_config


def test_what_g_generates_is_found_again():
    config = make_config(model__carry_steps=0, model__n=8)
    state = train_state.init(config)
    conv_out = {"kernel": 0.1 * state.generator["conv_out"]["kernel"], "bias": jnp.zeros(3)}
    g = {**state.generator, "conv_out": conv_out}  # within the range of pixels
    state = state.replace(generator_average=g)
    images = np.concatenate(list(generate.samples(config, state, 6, seed=3)))
    found = inversion.invert(config, state, images, seed=0, num_updates=200, restarts=4)
    assert np.abs(found.z).max() <= 1.0
    differences = np.abs(found.images.astype(int) - images).mean((1, 2, 3))
    # A unit is 1/255; a wrong z is tens of units off, see the next test.
    assert differences.max() < 2.0
    np.testing.assert_allclose(found.residuals * 255, differences, atol=0.5)


def test_the_residual_is_the_best_of_the_restarts_and_tells_a_miss():
    config = make_config(model__carry_steps=0, model__n=8)
    state = train_state.init(config)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    one, four = (
        inversion.invert(config, state, images, num_updates=40, restarts=restarts)
        for restarts in (1, 4)
    )
    assert one.residuals.min() > 0.05
    assert (four.residuals <= one.residuals + 0.01).all()
    assert one.images.shape == images.shape
