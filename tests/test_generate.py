import jax
import numpy as np
import pytest
from jax import numpy as jnp

from began_jax import generate, models, pixels, train_state
from tests.conftest import make_config


def test_samples_are_of_the_average_and_of_latents_that_never_change():
    config = make_config()
    state = train_state.init(config)
    samples, spread = generate.fixed_samples(config, state)
    assert samples.shape == (4, 16, 16, 3)
    assert float(spread) == pytest.approx(float(generate.spread(samples)))

    other_g = jax.tree.map(jnp.zeros_like, state.generator)
    same, _ = generate.fixed_samples(config, state.replace(generator=other_g))
    np.testing.assert_array_equal(samples, same)
    black, none = generate.fixed_samples(config, state.replace(generator_average=other_g))
    assert not np.any(black)
    assert float(none) == 0.0

    # A later step changes the carry alone; with the carry over, nothing.
    late = [state.replace(step=jnp.int32(step)) for step in (1000, 2000)]
    np.testing.assert_array_equal(*(generate.fixed_samples(config, s)[0] for s in late))


def test_reconstructions_are_ds_at_the_states_step():
    config = make_config(model__carry_steps=4)
    state = train_state.init(config).replace(step=jnp.int32(1))
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    expected = models.reconstruct(
        config.model, state.discriminator, pixels.to_float(images), jnp.float32(0.75)
    )
    np.testing.assert_allclose(
        generate.reconstructions(config, state, images), expected, rtol=1e-6, atol=1e-6
    )


def test_spread_is_the_root_of_the_mean_variance():
    images = jnp.array([[[[0.0, 1.0]]], [[[2.0, 1.0]]]])  # variances 1 and 0
    assert float(generate.spread(images)) == pytest.approx(0.5**0.5)
