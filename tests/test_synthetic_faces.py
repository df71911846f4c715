"""The synthetic faces: pure in (seed, index), one face at every resolution, known factors."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from began_jax.data import export, face_painting, synthetic_faces

FACTORS = synthetic_faces.FACTORS
NAMES = [factor.name for factor in FACTORS]


def _box_mean(images: np.ndarray, resolution: int) -> np.ndarray:
    n, side, _, channels = images.shape
    block = side // resolution
    blocks = images.astype(np.float32).reshape(n, resolution, block, resolution, block, channels)
    return blocks.mean((2, 4))


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_an_image_depends_on_seed_and_index_alone(resolution):
    # More rows than one internal chunk holds, so that chunk borders fall differently below.
    indices = np.random.default_rng(0).permutation(300)[: 5 * 64 * 64 // resolution + 3] + 10**12
    images, factors = synthetic_faces.generate(7, indices, resolution)
    again, _ = synthetic_faces.generate(7, indices[::-1], resolution)
    np.testing.assert_array_equal(again[::-1], images)
    for row in (0, len(indices) // 2, len(indices) - 1):
        image, factor = synthetic_faces.generate(7, indices[row : row + 1], resolution)
        np.testing.assert_array_equal(image[0], images[row])
        np.testing.assert_array_equal(factor[0], factors[row])


def test_chunk_size_leaves_every_byte_alone(monkeypatch):
    factors = synthetic_faces.sample_factors(1, np.arange(40))
    images = synthetic_faces.render(factors, 32)
    for pixels in (1, 7 * 32 * 32):
        monkeypatch.setattr(synthetic_faces, "_CHUNK_PIXELS", pixels)
        np.testing.assert_array_equal(synthetic_faces.render(factors, 32), images)


@pytest.mark.parametrize("resolution", [16, 19, 32, 64, 256])
def test_shape_dtype_and_luma(resolution):
    factors = synthetic_faces.sample_factors(2, np.arange(3))
    colour = synthetic_faces.render(factors, resolution)
    luma = synthetic_faces.render(factors, resolution, channels=1)
    assert colour.shape == (3, resolution, resolution, 3)
    assert luma.shape == (3, resolution, resolution, 1)
    assert colour.dtype == luma.dtype == np.uint8
    # The weights sum to one, so the colours' roundings add half a level and luma's another half;
    # a clipped colour has lost its value and says nothing.
    exact = ((colour > 0) & (colour < 255)).all(-1)
    assert exact.mean() > 0.5
    gap = np.abs(colour @ np.array([0.299, 0.587, 0.114]) - luma[..., 0])
    assert gap[exact].max() <= 1.001


def test_no_rows_give_no_images():
    images, factors = synthetic_faces.generate(0, np.arange(0), 32)
    assert images.shape == (0, 32, 32, 3)
    assert factors.shape == (0, len(FACTORS))


# Mean absolute change over all pixels, in levels of 255, when the factor goes from one value to
# another with the others fixed. About half of what was measured: a factor that lost its effect, or
# most of it, is seen. Eyes are 3 % of the image, so what happens in them moves the mean little.
MIN_CHANGE = {
    "skin_tone": (0.0, 1.0, 15.0),
    "hair_tone": (0.0, 1.0, 18.0),
    "background_hue": (0.0, 0.5, 10.0),
    "background_light": (0.0, 1.0, 40.0),
    "clothing_hue": (0.0, 0.5, 1.2),
    "face_shape": (0.0, 1.0, 3.5),
    "yaw": (-1.0, 1.0, 14.0),
    "tilt": (-1.0, 1.0, 18.0),
    "light": (-1.0, 1.0, 16.0),
    "eye_tone": (0.0, 1.0, 0.25),
    "eye_openness": (0.0, 1.0, 1.0),
    "brow": (-1.0, 1.0, 0.7),
    "smile": (-1.0, 1.0, 0.6),
    "mouth_open": (0.0, 1.0, 0.7),
    "hair_style": (0.0, 4.0, 12.0),
    "glasses": (0.0, 2.0, 3.0),
    "beard": (0.0, 2.0, 2.7),
}


@pytest.mark.parametrize("name", NAMES)
def test_each_factor_changes_the_image(name):
    first, second, threshold = MIN_CHANGE[name]
    factors = synthetic_faces.sample_factors(3, np.arange(24))
    images = []
    for value in (first, second):
        factors[:, NAMES.index(name)] = value
        images.append(synthetic_faces.render(factors, 64).astype(np.float32))
    assert np.abs(images[1] - images[0]).mean() > threshold


@pytest.mark.parametrize("factor", [f for f in FACTORS if f.num_values], ids=lambda f: f.name)
def test_each_categorical_value_is_a_look_of_its_own(factor):
    factors = synthetic_faces.sample_factors(4, np.arange(12))
    looks = []
    for value in range(factor.num_values):
        factors[:, NAMES.index(factor.name)] = value
        looks.append(synthetic_faces.render(factors, 64).astype(np.float32))
    for first in range(factor.num_values):
        for second in range(first):
            assert np.abs(looks[first] - looks[second]).mean() > 1.0


@pytest.mark.parametrize(("resolution", "mean_limit"), [(16, 2.0), (32, 2.5), (64, 1.2)])
def test_every_resolution_shows_the_same_face(resolution, mean_limit):
    factors = synthetic_faces.sample_factors(5, np.arange(24))
    large = _box_mean(synthetic_faces.render(factors, 128), resolution)
    small = synthetic_faces.render(factors, resolution)
    gap = np.abs(large - small).mean((1, 2, 3))
    # About 1.5 x what was measured; another face is some 60 levels away, a shift by one pixel
    # of the 32 px image 8.
    assert gap.mean() < mean_limit
    assert gap.max() < 2 * mean_limit


def test_row_bands_hide_no_part_of_a_feature(monkeypatch):
    factors = synthetic_faces.sample_factors(6, np.arange(64))
    for name in ("yaw", "tilt", "brow", "eye_openness", "smile", "mouth_open"):
        column = NAMES.index(name)
        middle = (FACTORS[column].low + FACTORS[column].high) / 2
        factors[:, column] = np.where(factors[:, column] < middle, FACTORS[column].low, 1.0)
    factors[:, NAMES.index("glasses")] = np.arange(64) % 3
    banded = synthetic_faces.render(factors, 64)
    monkeypatch.setattr(face_painting, "_band", lambda top, bottom, side: slice(0, side))
    np.testing.assert_array_equal(synthetic_faces.render(factors, 64), banded)


def test_factors_have_the_documented_marginals():
    factors = synthetic_faces.sample_factors(8, np.arange(5000))
    assert factors.dtype == np.float32
    assert factors.shape == (5000, len(FACTORS))
    for factor, values in zip(FACTORS, factors.T, strict=True):
        assert f"    {factor.name} " in synthetic_faces.__doc__
        if factor.kind != "categorical":
            expected = factor.low + (factor.high - factor.low) * np.linspace(0, 1, 5000)
            # Kolmogorov-Smirnov-like: the largest gap of quantiles is below 1.63 / sqrt(5000) of
            # the range in 99 % of the draws; the draw is fixed, so this cannot flake.
            gap = np.abs(np.sort(values) - expected).max() / (factor.high - factor.low)
            assert gap < 1.63 / np.sqrt(5000), factor.name
            assert values.min() >= factor.low
            assert values.max() <= factor.high
        else:
            shares = np.bincount(values.astype(int), minlength=factor.num_values) / 5000
            np.testing.assert_array_equal(values, np.round(values))
            # Four standard deviations of a share near one half: 4 * 0.5 / sqrt(5000).
            np.testing.assert_allclose(shares, factor.probabilities, atol=0.029)


def test_factors_are_pairwise_uncorrelated():
    factors = synthetic_faces.sample_factors(9, np.arange(5000))
    correlation = np.corrcoef(factors.T) - np.eye(len(FACTORS))
    # 136 pairs with a standard deviation of 1 / sqrt(5000) = 0.014: 4.2 of them are 0.06.
    assert np.abs(correlation).max() < 0.06
    neighbours = [np.corrcoef(column[:-1], column[1:])[0, 1] for column in factors.T]
    assert np.abs(neighbours).max() < 0.06


def test_another_seed_gives_other_faces():
    indices = np.arange(64)
    images, factors = synthetic_faces.generate(0, indices, 16)
    others, other_factors = synthetic_faces.generate(1, indices, 16)
    shared = (factors[:, :14] == other_factors[:, :14]).mean()
    assert shared < 0.01
    gap = np.abs(images.astype(np.float32) - others).mean((1, 2, 3))
    assert gap.min() > 10.0
    # Nor is a seed a shift of another one's indices.
    assert len(np.unique(np.concatenate([factors, other_factors])[:, 0])) > 126


def test_faces_are_diverse_in_pixel_space():
    images, _ = synthetic_faces.generate(10, np.arange(400), 32)
    spread = (images / 255.0).std(axis=0).mean()
    assert 0.19 < spread < 0.3
    assert 0.3 < images.mean() / 255.0 < 0.6
    clipped = ((images == 0) | (images == 255)).mean()
    assert clipped < 0.03


def test_working_memory_does_not_grow_with_the_number_of_rows():
    factors = synthetic_faces.sample_factors(11, np.arange(1200))
    tracemalloc.start()
    images = synthetic_faces.render(factors, 32)
    peak = tracemalloc.get_traced_memory()[1] - images.nbytes
    tracemalloc.stop()
    # One chunk is 64 of the 1200 images at this size: all at once would need some 200 MB.
    assert peak < 40e6


def test_wrong_arguments_are_named():
    factors = synthetic_faces.sample_factors(0, np.arange(2))
    for resolution, channels, match in ((15, 3, "got 15"), (257, 3, "got 257"), (32, 2, "got 2")):
        with pytest.raises(ValueError, match=match):
            synthetic_faces.render(factors, resolution, channels)
    with pytest.raises(ValueError, match="must have shape"):
        synthetic_faces.render(factors[:, 1:], 32)
    for name, value in (("yaw", -1.1), ("skin_tone", np.nan), ("glasses", 3), ("beard", 0.5)):
        wrong = factors.copy()
        wrong[1, NAMES.index(name)] = value
        with pytest.raises(ValueError, match=name):
            synthetic_faces.render(wrong, 32)
    for indices in (np.array([-1]), np.array([0.5]), np.zeros((2, 2), int)):
        with pytest.raises(ValueError, match="indices"):
            synthetic_faces.sample_factors(0, indices)
    with pytest.raises(ValueError, match="seed"):
        synthetic_faces.sample_factors(-1, np.arange(2))


def test_faces_as_files_are_not_those_that_runs_train_on(tmp_path, capsys):
    assert export.main([str(tmp_path / "faces"), "--num=3", "--side=16"]) == 0
    paths = sorted((tmp_path / "faces").iterdir())
    assert [path.name for path in paths] == ["000000.png", "000001.png", "000002.png"]
    found = np.stack([np.asarray(Image.open(path)) for path in paths])
    np.testing.assert_array_equal(found, synthetic_faces.generate(1, np.arange(3), 16)[0])
    assert synthetic_faces.DATA_SEED != 1
    for arguments, line in (
        ([str(tmp_path / "faces")], "it is there and not empty"),
        (["x", "--num=0"], "--num=0: 1 or more"),
        (["x", "--side=8"], "--side=8: 16 to 256"),
    ):
        with pytest.raises(SystemExit) as ended:
            export.main(arguments)
        assert ended.value.code == 2
        assert line in capsys.readouterr().err
