import re

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from began_jax import models
from began_jax.schema import ModelConfig
from tests.conftest import ROOT, make_config

PRESETS_AND_SKIPS = [("author", True), ("author", False), ("fig1", True), ("fig1", False)]
# docs/paper.md's rows: resolution, n, and totals in the order of PRESETS_AND_SKIPS.
ROWS = [
    [int(cell.replace(",", "")) for cell in row.split("|")]
    for row in re.findall(
        r"^\| (\d+ \| \d+(?: \| [\d,]+){4}) \|$",
        (ROOT / "docs" / "paper.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
]


def model_config(**overrides) -> ModelConfig:
    return make_config(**{f"model__{name}": value for name, value in overrides.items()}).model


def init_both(config: ModelConfig, key: jax.Array):
    return models.init_generator(config, key), models.init_discriminator(config, key)


def test_parameter_totals_of_the_paper():
    assert len(ROWS) == 7
    assert [128, 128, 17_268_038] in [row[:3] for row in ROWS]  # the paper's 17.3 million
    for resolution, n, *totals in ROWS:
        for (preset, skips), total in zip(PRESETS_AND_SKIPS, totals, strict=True):
            c = model_config(resolution=resolution, n=n, n_h=64, n_z=64, preset=preset, skips=skips)
            shapes = jax.eval_shape(lambda key, c=c: init_both(c, key), jax.random.key(0))
            assert models.num_parameters(shapes) == total, (resolution, n, preset, skips)


@pytest.mark.parametrize("preset", ["author", "fig1"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resolution", [16, 32, 64, 128, 256])
def test_shapes_at_every_resolution(preset, channels, resolution):
    c = model_config(preset=preset, channels=channels, resolution=resolution)

    def forward(key):
        g, d = init_both(c, key)
        fake = models.generate(c, g, jnp.zeros((2, c.n_z)), jnp.float32(0.5))
        return fake, models.encode(c, d, fake, None), models.reconstruct(c, d, fake, None)

    fake, h, reconstruction = jax.eval_shape(forward, jax.random.key(0))
    assert fake.shape == reconstruction.shape == (2, resolution, resolution, channels)
    assert fake.dtype == reconstruction.dtype == jnp.float32
    assert h.shape == (2, c.n_h)


@pytest.mark.parametrize("preset", ["author", "fig1"])
def test_repeats_add_one_same_width_convolution_per_stack(preset):
    def size(repeats):
        c = model_config(preset=preset, repeats=repeats, resolution=32, skips=False)
        shapes = jax.eval_shape(lambda key: init_both(c, key), jax.random.key(0))
        return models.num_parameters(shapes), c.n

    (one, n), (two, _), (three, _) = size(1), size(2), size(3)

    def conv(width):
        return 9 * width * width + width

    encoder = conv(n) + conv(2 * n) + (conv(3 * n) if preset == "fig1" else 0)
    decoders = 2 * (2 + (preset == "fig1")) * conv(n)
    assert three - two == two - one == encoder + decoders


def test_paper_init_is_a_normal_of_sigma_one_hundredth_cut_at_two_sigma():
    c = model_config(init="paper", n=16, n_h=64)
    d = models.init_discriminator(c, jax.random.key(1))
    kernel = np.asarray(d["encoder"]["fc"]["kernel"])
    assert kernel.size > 100_000
    assert np.abs(kernel).max() <= 0.02
    # A unit normal cut at ±2 has standard deviation 0.8796; 4 standard errors of the estimate.
    assert kernel.std() == pytest.approx(0.008796, abs=4 * 0.008796 / np.sqrt(2 * kernel.size))
    assert all(not np.any(layer["bias"]) for layer in d["encoder"].values())


def test_he_init_has_variance_two_over_fan_in():
    c = model_config(init="he", n=64, n_h=64)
    g = models.init_generator(c, jax.random.key(1))
    kernel = np.asarray(g["scale1_conv1"]["kernel"])
    expected = np.sqrt(2 / (9 * 64))
    assert kernel.std() == pytest.approx(expected, abs=4 * expected / np.sqrt(2 * kernel.size))


def test_no_two_layers_start_with_the_same_weights():
    d = models.init_discriminator(model_config(), jax.random.key(1))
    starts = [
        np.asarray(leaf).ravel()[:4].tobytes() for leaf in jax.tree.leaves(d) if leaf.ndim > 1
    ]
    assert len(set(starts)) == len(starts)


def test_carry_falls_linearly_to_zero_and_stays():
    c = model_config(carry_steps=40)
    values = [float(models.carry_at(c, jnp.int32(step))) for step in (0, 10, 40, 1000)]
    assert values == [1.0, 0.75, 0.0, 0.0]
    assert models.carry_at(model_config(carry_steps=0), jnp.int32(0)) is None


@pytest.mark.parametrize("preset", ["author", "fig1"])
def test_carry_one_bypasses_same_shape_layers_and_carry_zero_is_no_carry(preset):
    c = model_config(preset=preset, resolution=32)
    g, _ = init_both(c, jax.random.key(0))
    z = jax.random.uniform(jax.random.key(1), (2, c.n_z))
    changed = jax.tree.map(lambda leaf: leaf, g)
    changed["scale1_conv2"]["kernel"] = g["scale1_conv2"]["kernel"] + 1.0  # n to n channels
    bypassed = [models.generate(c, p, z, jnp.float32(1.0)) for p in (g, changed)]
    np.testing.assert_array_equal(*bypassed)
    used = [models.generate(c, p, z, jnp.float32(0.0)) for p in (g, changed)]
    assert np.abs(used[0] - used[1]).max() > 0.1
    np.testing.assert_array_equal(used[0], models.generate(c, g, z, None))


def test_skips_bring_h0_to_the_last_scale():
    c = model_config(resolution=32)
    g, _ = init_both(c, jax.random.key(0))
    kernel = g["scale2_conv1"]["kernel"]
    assert kernel.shape == (3, 3, 2 * c.n, c.n)
    g["scale1_conv1"] = jax.tree.map(jnp.zeros_like, g["scale1_conv1"])  # cuts the main path
    fakes = models.generate(c, g, jnp.array([[1.0] * c.n_z, [-1.0] * c.n_z]), None)
    assert np.abs(fakes[0] - fakes[1]).max() > 1e-3


def test_bfloat16_computes_near_float32_and_returns_float32():
    g, d = init_both(model_config(), jax.random.key(0))
    z = jax.random.uniform(jax.random.key(1), (2, 5))
    results = {}
    for dtype in ("float32", "bfloat16"):
        c = model_config(dtype=dtype)
        assert {leaf.dtype for leaf in jax.tree.leaves(init_both(c, jax.random.key(0)))} == {
            jnp.dtype("float32")
        }
        results[dtype] = models.reconstruct(c, d, models.generate(c, g, z, None), None)
    assert results["bfloat16"].dtype == jnp.float32
    difference = np.abs(results["float32"] - results["bfloat16"]).max()
    scale = np.abs(results["float32"]).max()
    # Ten layers of relative rounding 2^-9 each; zero would mean bfloat16 was not used.
    assert 0 < difference < 10 * 2**-9 * scale * 2


def test_latents_fill_the_cube():
    z = np.asarray(models.sample_latents(model_config(n_z=64), jax.random.key(0), 500))
    assert z.min() >= -1
    assert z.max() < 1
    assert abs(z.mean()) < 4 * np.sqrt(1 / 3 / z.size)
    assert z.var() == pytest.approx(1 / 3, abs=0.01)
