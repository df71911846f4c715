import numpy as np
from jax import numpy as jnp

from began_jax import generate, inversion, models, train_state
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


def test_the_residual_tells_a_miss():
    config = make_config(model__carry_steps=0, model__n=8)
    state = train_state.init(config)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    found = inversion.invert(config, state, images, num_updates=40)
    assert found.residuals.min() > 0.05
    assert found.images.shape == images.shape


def test_the_best_of_the_restarts_is_kept():
    config = make_config(model__carry_steps=0, model__n=8)
    state = train_state.init(config)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    found = inversion.invert(config, state, images, num_updates=20, restarts=8)
    # The residual is of the very z, and none of the draws was better to begin with.
    fakes = generate.from_latents(config, state, found.z, average=True)
    np.testing.assert_array_equal(found.images, fakes)
    differences = np.abs(fakes / 255.0 - images / 255.0).mean((1, 2, 3))
    np.testing.assert_allclose(found.residuals, differences, atol=0.004)
    for i, image in enumerate(images):
        z = inversion._draw(config, 0, 8, np.array([i]))
        drawn = generate.from_latents(config, state, np.asarray(z), average=True)
        first = np.abs(drawn / 255.0 - image / 255.0).mean((1, 2, 3))
        assert found.residuals[i] < first.min()


def test_what_is_found_for_an_image_does_not_depend_on_the_others():
    config = make_config(model__carry_steps=0, model__n=8)
    state = train_state.init(config)
    images = np.random.default_rng(0).integers(0, 256, (18, 16, 16, 3), np.uint8)
    many = inversion.invert(config, state, images, seed=5, num_updates=20)
    few = inversion.invert(config, state, images[:2], seed=5, num_updates=20)
    np.testing.assert_array_equal(many.z[:2], few.z)
    np.testing.assert_array_equal(many.residuals[:2], few.residuals)
    assert len(np.unique(many.z, axis=0)) == 18


def test_an_encoder_s_latents_are_its_codes_and_tell_their_residuals():
    config = make_config(model__carry_steps=0, model__n_h=5, objective__name="began_cs")
    state = train_state.init(config)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    found = inversion.by_encoder(config, state, images)
    codes = models.encode(config.model, state.discriminator, images / 255.0 - 0.5, None)
    np.testing.assert_allclose(found.z, np.clip(codes, -1, 1), rtol=1e-4, atol=1e-5)
    assert (np.abs(np.asarray(codes)) > 1).any()
    np.testing.assert_array_equal(found.images, generate.from_latents(config, state, found.z))
    fakes = models.generate(config.model, state.sampling_generator, found.z, None)
    expected = np.abs(images / 255.0 - 0.5 - fakes).mean((1, 2, 3))
    np.testing.assert_allclose(found.residuals, expected, rtol=1e-5)
