"""EBGAN's own networks against an independent NumPy implementation, their size and their rules."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from began_jax import dry_run, models, objectives, train_state
from began_jax.config import ConfigError
from began_jax.train_step import train_step
from tests.conftest import make_config, some_slow
from tests.test_gradients import context
from tests.test_models import init_both
from tests.test_objectives import assert_every_parameter_moved, slow_pulling_away

WORK = ["began", "denoising", "ebgan", "ebgan_pt"]


def config_of(**overrides):
    return make_config(**{"model__preset": "ebgan", "model__carry_steps": 0, **overrides})


def model_config(**overrides):
    return config_of(**{f"model__{name}": value for name, value in overrides.items()}).model


def with_biases(params):
    """Initial biases are 0, which would hide a wrong one."""
    rng = np.random.default_rng(3)
    return jax.tree.map(
        lambda leaf: leaf + 0.2 * rng.standard_normal(leaf.shape) * (leaf.ndim == 1), params
    )


# In float64, pixel by pixel.


def conv(x, layer):
    b, size, _, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((b, size // 2, size // 2, layer["kernel"].shape[3]))
    for i in range(size // 2):
        for j in range(size // 2):
            window = padded[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
            y[:, i, j] = np.einsum("byxc,yxcn->bn", window, layer["kernel"])
    return y


def transposed(x, layer):
    """Each value of x is written to the window that `conv` would read for it, last tap first."""
    b, size, _, _ = x.shape
    y = np.zeros((b, 2 * size + 2, 2 * size + 2, layer["kernel"].shape[3]))
    for i in range(size):
        for j in range(size):
            window = np.einsum("bc,yxcn->byxn", x[:, i, j], layer["kernel"][::-1, ::-1])
            y[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += window
    return y[:, 1:-1, 1:-1]


def norm(x):
    return np.stack([(one - one.mean()) / np.sqrt(one.var() + 1e-6) for one in x])


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def slow_encode(p, x):
    h = leaky(conv(x, p["conv1"]) + p["conv1"]["bias"])
    h = leaky(norm(conv(h, p["conv2"])) + p["conv2"]["bias"])
    h = leaky(norm(conv(h, p["conv3"])) + p["conv3"]["bias"])
    return h.reshape(len(x), -1)


def slow_decode(p, h, size):
    y = h.reshape(len(h), size, size, -1)
    y = leaky(norm(transposed(y, p["conv1"])) + p["conv1"]["bias"])
    y = leaky(norm(transposed(y, p["conv2"])) + p["conv2"]["bias"])
    return transposed(y, p["conv_out"]) + p["conv_out"]["bias"]


def slow_generate(p, z, size):
    y = np.maximum(z @ p["fc"]["kernel"] + p["fc"]["bias"], 0).reshape(len(z), size, size, -1)
    for name in ("conv1", "conv2", "conv3"):
        y = np.maximum(norm(transposed(y, p[name])) + p[name]["bias"], 0)
    return transposed(y, p["conv_out"]) + p["conv_out"]["bias"]


def assert_near(ours, expected):
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(expected).max())


def test_the_networks_are_those_of_numpy():
    c = model_config(resolution=32, n=3)
    g, d = map(with_biases, init_both(c, jax.random.key(0)))
    doubles = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (g, d))
    z = models.sample_latents(c, jax.random.key(1), 2)
    fake = models.generate(c, g, z, None)
    assert_near(fake, slow_generate(doubles[0], np.asarray(z, np.float64), 2))
    x = np.random.default_rng(2).uniform(-0.5, 0.5, (2, 32, 32, 3)).astype(np.float32)
    h = models.encode(c, d, x, None)
    expected = slow_encode(doubles[1]["encoder"], x.astype(np.float64))
    assert_near(h, expected)
    expected = slow_decode(doubles[1]["decoder"], expected, 4)
    assert_near(models.decode(c, d, h, None), expected)
    assert_near(models.reconstruct(c, d, x, None), expected)


@pytest.mark.parametrize(
    ("resolution", "n", "n_z", "channels"), [(64, 64, 100, 3), (16, 4, 5, 1), (128, 32, 64, 3)]
)
def test_parameter_totals_in_closed_form(resolution, n, n_z, channels):
    c = model_config(resolution=resolution, n=n, n_z=n_z, channels=channels)
    g, d = jax.eval_shape(lambda key: init_both(c, key), jax.random.key(0))
    first = (resolution // 16) ** 2 * 16 * n
    image = 16 * channels * n
    of_g = (n_z + 1) * first + 2688 * n**2 + 14 * n + 2 * image + channels
    of_d = 320 * n**2 + 10 * n + 2 * image + channels
    assert (models.num_parameters(g), models.num_parameters(d)) == (of_g, of_d)
    if n == 64:  # docs/paper.md
        assert (of_g, of_d) == (12_671_875, 1_317_507)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resolution", [16, 32, 64, 128, 256])
def test_shapes_at_every_resolution(channels, resolution):
    c = model_config(channels=channels, resolution=resolution, n=4)

    def forward(key):
        g, d = init_both(c, key)
        fake = models.generate(c, g, jnp.zeros((2, c.n_z)), None)
        return fake, models.encode(c, d, fake, None), models.reconstruct(c, d, fake, None)

    fake, h, reconstruction = jax.eval_shape(forward, jax.random.key(0))
    assert fake.shape == reconstruction.shape == (2, resolution, resolution, channels)
    assert fake.dtype == reconstruction.dtype == jnp.float32
    assert h.shape == (2, c.code_size) == (2, (resolution // 8) ** 2 * 16)


@pytest.mark.slow
def test_an_image_does_not_depend_on_its_batch():
    c = model_config()
    g, d = init_both(c, jax.random.key(0))
    z = models.sample_latents(c, jax.random.key(1), 4)
    x = models.generate(c, g, z, None)
    together = x, models.reconstruct(c, d, 3 * x, None)
    alone = [models.generate(c, g, z[i : i + 1], None) for i in range(4)]
    np.testing.assert_allclose(together[0], np.concatenate(alone), atol=1e-5)
    alone = [models.reconstruct(c, d, 3 * x[i : i + 1], None) for i in range(4)]
    np.testing.assert_allclose(together[1], np.concatenate(alone), atol=1e-5)


@pytest.mark.parametrize("init", ["paper", "he"])
def test_first_images_and_reconstructions_are_of_the_range_of_pixels(init):
    c = model_config(init=init, n=64, resolution=32, n_z=64)
    g, d = init_both(c, jax.random.key(0))
    fake = models.generate(c, g, models.sample_latents(c, jax.random.key(1), 4), None)
    x = jax.random.uniform(jax.random.key(2), fake.shape) - 0.5
    for images in (fake, models.reconstruct(c, d, x, None)):
        assert 0.05 < float(images.std()) < 0.7


@pytest.mark.slow
def test_bfloat16_computes_near_float32():
    c = model_config()
    g, d = init_both(c, jax.random.key(0))
    z = models.sample_latents(c, jax.random.key(1), 4)
    half = model_config(dtype="bfloat16")
    results = [models.reconstruct(m, d, models.generate(m, g, z, None), None) for m in (c, half)]
    assert results[1].dtype == jnp.float32
    difference = np.abs(results[0] - results[1]).max()
    # Nine layers of relative rounding 2^-9 each; zero would mean bfloat16 was not used.
    assert 0 < difference < 9 * 2**-9 * 2 * np.abs(results[0]).max()


# The one with the pulling-away term has all that the others have.
@pytest.mark.parametrize("name", some_slow(WORK, {*WORK} - {"ebgan_pt"}))
def test_a_step_moves_every_parameter_and_is_finite(name):
    # The margin is above the first energies, so that EBGAN's D sees the fakes.
    config = config_of(objective__name=name, began__k_init=0.3, objective__margin=1.0)
    state = train_state.init(config)
    batch = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    after, metrics = jax.jit(lambda state: train_step(config, state, batch))(state)
    assert train_state.is_finite(after)
    assert all(np.isfinite(value) for value in metrics.values())
    assert_every_parameter_moved(state, after)


def test_pulling_away_compares_the_maps_of_the_code():
    config = config_of(objective__name="ebgan_pt", objective__pt_weight=0.3)
    _, d = init_both(config.model, jax.random.key(0))
    fake = jax.random.uniform(jax.random.key(1), (3, 16, 16, 3)) - 0.5
    loss, energy = objectives.of(config).generator(config, d, fake, context(0))
    codes = slow_encode(d["encoder"], np.asarray(fake, np.float64))
    assert float(loss - energy) == pytest.approx(0.3 * slow_pulling_away(codes), rel=1e-4)


@pytest.mark.parametrize("name", ["began_cs", "variational", "hinge"])
def test_objectives_of_vectors_are_refused(name):
    with pytest.raises(ConfigError) as error:
        config_of(objective__name=name, model__n_h=5)
    assert str(error.value) == (
        f"config.objective.name = {name!r}: "
        "its encoder gives a vector, that of model.preset 'ebgan' gives maps"
    )


def test_a_vanishing_residual_is_refused():
    with pytest.raises(ConfigError) as error:
        config_of(model__carry_steps=40)
    assert str(error.value) == (
        "config.model.carry_steps = 40: 0 is needed: model.preset 'ebgan' has no vanishing residual"
    )


@pytest.mark.slow
def test_a_dry_run_tells_its_parameters():
    of_g, of_d = 6 * 64 + 2688 * 16 + 56 + 384 + 3, 320 * 16 + 40 + 384 + 3
    told = dry_run.report(config_of(objective__name="ebgan_pt"))
    assert f"generator {of_g:,}, discriminator {of_d:,}" in told
