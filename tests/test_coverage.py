"""The coverage of the synthetic faces' factors, and the regressor that reads them."""

import numpy as np
import pytest

from began_jax import errors
from began_jax.data import synthetic_faces
from began_jax.data.synthetic_faces import FACTORS
from began_jax.metrics import coverage


def factors(seed, num):
    return synthetic_faces.sample_factors(seed, np.arange(num))


def test_equal_sets_cover_each_other():
    some = factors(0, 500)
    assert set(coverage.coverage(some, some).values()) == {1.0}
    repeated = coverage.coverage(np.tile(some, (3, 1)), some)
    assert repeated == pytest.approx({one.name: 1.0 for one in FACTORS})


def test_one_image_over_and_over_covers_its_own_bin():
    many = factors(0, 20_000)
    found = coverage.coverage(np.repeat(many[:1], 100, axis=0), many)
    for column, factor in enumerate(FACTORS):
        if factor.kind == "categorical":
            expected = np.mean(many[:, column] == many[0, column])
        else:
            expected = 0.1
        assert found[factor.name] == pytest.approx(expected, abs=1e-3)


def test_half_of_a_range_is_a_half():
    many = factors(0, 20_000)
    light = many[many[:, 0] < 0.5]
    found = coverage.coverage(light, many)
    assert found["skin_tone"] == pytest.approx(0.5, abs=0.01)
    assert found["yaw"] > 0.95


def test_what_is_decoded_is_what_was_encoded():
    some = factors(1, 200)
    encoded = coverage._encoded(some)
    assert encoded.shape == (200, 12 + 2 * 2 + 7 + 3 + 3)
    assert np.abs(encoded).max() <= 1.0
    np.testing.assert_allclose(coverage._decoded(encoded), some, atol=1e-5)


@pytest.mark.parametrize("resolution", [16, pytest.param(64, marks=pytest.mark.slow)])
def test_a_regressor_learns_to_read_faces_it_has_not_seen(resolution, monkeypatch, cache_dir):
    monkeypatch.setattr(coverage, "_NUM_TRAINING", 1500)
    monkeypatch.setattr(coverage, "_NUM_HELD_OUT", 200)
    monkeypatch.setattr(coverage, "_STEPS", 150)
    trained = coverage.regressor(resolution, 3)
    assert trained.held_out["skin_tone"] > 0.8
    assert trained.held_out["background_light"] > 0.8

    images, truth = synthetic_faces.generate(7, np.arange(100), resolution, 3)
    read = coverage.read(trained, images)
    assert read.shape == truth.shape
    names = [factor.name for factor in FACTORS]
    light = names.index("background_light")
    assert np.corrcoef(read[:, light], truth[:, light])[0, 1] > 0.9
    one_face = coverage.coverage(read[:1], coverage.read(trained, images))
    assert np.mean(list(one_face.values())) < 0.4

    # Once; a damaged one is told.
    monkeypatch.setattr(coverage, "_train", None)
    again = coverage.regressor(resolution, 3)
    assert again.sha256 == trained.sha256
    assert again.held_out == trained.held_out
    (kept,) = (cache_dir / "regressors").iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(errors.UserError, match="the regressor cannot be read") as raised:
        coverage.regressor(resolution, 3)
    assert len(str(raised.value).splitlines()) == 1
