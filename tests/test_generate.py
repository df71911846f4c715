import jax
import numpy as np
import pytest
from jax import numpy as jnp

from began_jax import generate, models, pixels, train_state
from tests.conftest import make_config


def test_samples_are_of_the_average_and_of_latents_that_never_change():
    config = make_config()
    state = train_state.init(config)
    samples, spread, outside = generate.fixed_samples(config, state)
    assert samples.shape == (4, 16, 16, 3)
    assert float(outside) == pytest.approx(np.mean(np.abs(samples) > 0.5))
    assert float(spread) == pytest.approx(float(generate.spread(samples)))

    other_g = jax.tree.map(jnp.zeros_like, state.generator)
    same, *_ = generate.fixed_samples(config, state.replace(generator=other_g))
    np.testing.assert_array_equal(samples, same)
    black, none, outside = generate.fixed_samples(config, state.replace(generator_average=other_g))
    assert not np.any(black)
    assert float(none) == float(outside) == 0.0

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


def test_a_sample_depends_on_seed_and_index_alone():
    config = make_config()
    state = train_state.init(config)

    def drawn(num, **options):
        return np.concatenate(list(generate.samples(config, state, num, **options)))

    many = drawn(130)
    assert many.shape == (130, 16, 16, 3)
    np.testing.assert_array_equal(drawn(70), many[:70])
    assert len({image.tobytes() for image in many}) == 130
    assert np.any(drawn(2, seed=1) != many[:2])

    z = generate.latents(config, 0, range(130))
    assert np.abs(z).max() <= 1.0
    np.testing.assert_array_equal(generate.from_latents(config, state, z), many)


def test_samples_are_of_the_average_or_of_g_itself():
    config = make_config()
    state = train_state.init(config)
    state = state.replace(generator=jax.tree.map(jnp.zeros_like, state.generator))
    (by_average,) = generate.samples(config, state, 2)
    (by_g,) = generate.samples(config, state, 2, average=False)
    assert np.any(by_average != by_average[0, 0, 0])
    np.testing.assert_array_equal(by_g, 128)  # 0 in [−0.5, 0.5]


def test_reconstructed_is_the_reconstruction_whatever_the_number():
    config = make_config()
    state = train_state.init(config)
    images = np.random.default_rng(0).integers(0, 256, (66, 16, 16, 3), np.uint8)
    expected = np.asarray(generate.reconstructions(config, state, images))
    found = generate.reconstructed(config, state, images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)  # rounding of other batches
    np.testing.assert_array_equal(generate.reconstructed(config, state, images[:3]), found[:3])


@pytest.mark.parametrize("spherical", [False, True])
def test_interpolation_goes_from_end_to_end(spherical):
    a, b = np.random.default_rng(0).uniform(-0.4, 0.4, (2, 3, 5)).astype(np.float32)
    z = generate.interpolate(a, b, 5, spherical=spherical)
    assert z.shape == (3, 5, 5)
    np.testing.assert_allclose(z[:, 0], a, atol=1e-6)
    np.testing.assert_allclose(z[:, -1], b, atol=1e-6)
    if not spherical:
        np.testing.assert_allclose(z[:, 2], (a + b) / 2, atol=1e-6)
        return
    lengths = np.linalg.norm(z, axis=-1)
    np.testing.assert_allclose(lengths[:, 2], (lengths[:, 0] + lengths[:, -1]) / 2, rtol=1e-5)
    units = z / lengths[..., None]
    cosines = (units[:, :-1] * units[:, 1:]).sum(-1)  # equal angles
    np.testing.assert_allclose(cosines, cosines[:, :1] * np.ones(4), atol=1e-5)


def test_a_great_circle_stays_in_the_cube_of_latents():
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, 50, 64)).astype(np.float32)
    z = generate.interpolate(a, b, 9, spherical=True)
    assert np.abs(z).max() == 1.0
    np.testing.assert_allclose(z[:, 0], a, atol=1e-6)
