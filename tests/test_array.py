"""Images of .npy and .npz files: mapped, read from memory, or prepared."""

import dataclasses
import os
import pickle
import zipfile

import numpy as np
import pytest

from began_jax import data
from began_jax.config import ConfigError
from began_jax.data import decoding
from tests.conftest import make_data_config

CONFIG = make_data_config("array")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


def _load(path, resolution=16, channels=3, **fields):
    config = dataclasses.replace(CONFIG, path=str(path), **fields)
    return data.load(config, resolution=resolution, channels=channels)


def _error(path, *args, **fields):
    with pytest.raises(ConfigError) as error:
        _load(path, *args, **fields)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def npy(tmp_path):
    path = tmp_path / "faces.npy"
    np.save(path, IMAGES)
    return path


def test_npy_of_the_right_shape_is_mapped_as_it_is(npy, cache_dir):
    images = _load(npy)
    assert isinstance(images, np.memmap)
    assert str(images.filename) == str(npy)
    assert not images.flags.writeable
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(_load(npy, crop_size=16), IMAGES)
    assert not cache_dir.exists()


def test_home_is_expanded(npy, monkeypatch):
    monkeypatch.setenv("HOME", str(npy.parent))
    np.testing.assert_array_equal(_load("~/faces.npy"), IMAGES)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_one_array_or_a_named_one(tmp_path, save, cache_dir):
    path = tmp_path / "faces.npz"
    save(path, pictures=IMAGES)
    np.testing.assert_array_equal(_load(path), IMAGES)
    save(path, labels=np.arange(5), pictures=IMAGES, others=255 - IMAGES)
    np.testing.assert_array_equal(_load(path, name="others"), 255 - IMAGES)
    assert not cache_dir.exists()
    for name in ("", "picture"):
        assert _error(path, name=name).startswith(f"config.data.name = {name!r}: ")
        assert "labels, pictures, others" in _error(path, name=name)


def test_larger_images_are_the_block_mean(npy):
    expected = np.floor(IMAGES.reshape(5, 8, 2, 8, 2, 3).mean((2, 4)) + 0.5)
    np.testing.assert_array_equal(_load(npy, 8), expected)


def test_oblong_images_are_cropped(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (3, 18, 23, 1), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    result = _load(tmp_path / "a.npy", 16, 1, crop_size=16)
    np.testing.assert_array_equal(result, pixels[:, 1:17, 3:19])
    np.testing.assert_array_equal(_load(tmp_path / "a.npy", 18, 1), pixels[:, :, 2:20])


def test_crop_of_images_of_the_right_size_is_not_forgotten(npy):
    result = _load(npy, crop_size=8)
    expected = decoding.to_array(
        decoding.to_image(IMAGES[2]), resolution=16, channels=3, crop="center", crop_size=8
    )
    np.testing.assert_array_equal(result[2], expected)


def test_celeba_crop(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (2, 218, 178, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    result = _load(tmp_path / "a.npy", 128, crop="celeba")
    np.testing.assert_array_equal(result, pixels[:, 50:178, 25:153])


def test_columns_first_array_is_prepared_to_rows_first(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(IMAGES))
    images = _load(tmp_path / "a.npy")
    assert images.flags.c_contiguous
    np.testing.assert_array_equal(images, IMAGES)


def test_second_load_resizes_nothing(npy, monkeypatch):
    first = _load(npy, 8)
    calls = []
    original = decoding.to_array
    monkeypatch.setattr(decoding, "to_array", lambda *a, **k: calls.append(1) or original(*a, **k))
    np.testing.assert_array_equal(_load(npy, 8), first)
    assert len(calls) == 1  # the first image, to see whether the crop fits


@pytest.mark.parametrize("change", ["resolution", "crop_size", "content", "path", "name", "crop"])
def test_every_setting_is_in_the_key(tmp_path, cache_dir, change):
    path = tmp_path / "a.npz"
    images = np.random.default_rng(1).integers(0, 256, (2, 218, 178, 3), dtype=np.uint8)
    np.savez(path, a=images, b=255 - images)
    before = _load(path, 64, name="a")
    if change == "content":
        times = path.stat().st_mtime_ns
        np.savez(path, a=255 - images, b=images)
        os.utime(path, ns=(times, times + 1))
    if change == "path":
        (tmp_path / "b").mkdir()
        path = path.rename(tmp_path / "b" / path.name)
    fields = {
        "crop_size": {"crop_size": 64},
        "name": {"name": "b"},
        "crop": {"crop": "celeba"},
    }.get(change, {})
    after = _load(path, 32 if change == "resolution" else 64, **{"name": "a", **fields})
    assert len(list(cache_dir.glob("images/*.npy"))) == 2
    assert (change == "path") == np.array_equal(after, before)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (IMAGES.astype(np.float32), "float32 (5, 16, 16, 3)"),
        (IMAGES.astype(np.int8), "int8 (5, 16, 16, 3)"),
        (IMAGES[..., 0], "uint8 (5, 16, 16)"),
        (IMAGES[..., :1], "uint8 (5, 16, 16, 1)"),
        (IMAGES.transpose(0, 3, 1, 2), "uint8 (5, 3, 16, 16)"),
        (IMAGES[:0], "uint8 (0, 16, 16, 3)"),
        (IMAGES[:, :15], "uint8 (5, 15, 16, 3)"),
        (IMAGES[:, :, :15], "uint8 (5, 16, 15, 3)"),
    ],
)
@pytest.mark.parametrize("save", [np.save, np.savez])
def test_unfit_array_is_one_line(tmp_path, array, text, save, cache_dir):
    path = tmp_path / ("a.npy" if save is np.save else "a.npz")
    save(path, array)
    message = _error(path)
    assert message == (
        f"config.data.path = {str(path)!r}: {text}; uint8 (N, H, W, 3) is needed, "
        "H and W 16 or more"
    )
    assert not cache_dir.exists()


def test_crop_that_does_not_fit_is_one_line(npy, cache_dir):
    for fields in ({"crop": "celeba"}, {"crop_size": 17}):
        assert "faces.npy': 16×16 pixels; " in _error(npy, **fields)
    assert not cache_dir.exists()


def _pickled(path):
    np.save(path, np.array([{}, None], object), allow_pickle=True)


def _pickled_in_npz(path):
    with path.open("wb") as file:
        np.savez(file, a=np.array([{}, None], object))


def _cut(path):
    np.save(path, IMAGES)
    path.write_bytes(path.read_bytes()[:-1])


def _damaged_npz(path):
    with path.open("wb") as file:
        np.savez_compressed(file, a=IMAGES)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def _damaged_header(path):
    np.save(path, IMAGES)
    path.write_bytes(path.read_bytes().replace(b"'shape': (", b"'shape': \0"))


@pytest.mark.parametrize(
    "write",
    [
        _pickled,
        _pickled_in_npz,
        lambda path: path.write_bytes(pickle.dumps(IMAGES)),
        _cut,
        _damaged_npz,
        _damaged_header,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no\narray"),
    ],
)
def test_damaged_file_is_one_line(tmp_path, write):
    path = tmp_path / "a.npy"
    write(path)
    assert "a.npy': no undamaged .npy or .npz (" in _error(path)


def test_zip_of_something_else_is_one_line(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.jpg", b"")
    assert "a.npz': |S1 (); uint8 (N, H, W, 3) is needed" in _error(tmp_path / "a.npz")


def test_missing_file_is_one_line(tmp_path):
    for path in (tmp_path / "a.npy", tmp_path):
        text = f"config.data.path = {str(path)!r}: no such file; an .npy or .npz is needed"
        assert _error(path) == text
