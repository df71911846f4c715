"""Directories and .zip files of images: which files count, in which order, and the bad ones."""

import dataclasses
import json
import os
import zipfile

import numpy as np
import PIL.Image
import pytest

from began_jax import data, progress
from began_jax.config import ConfigError
from began_jax.data import decoding, folder, parallel
from tests.conftest import make_data_config

CONFIG = make_data_config("folder")


@pytest.fixture
def cache(cache_dir):
    return cache_dir / "images"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "faces").mkdir()
    return tmp_path / "faces"


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(progress, "say", lines.append)
    return lines


def _load(path, resolution=4, channels=3, **fields):
    config = dataclasses.replace(CONFIG, path=str(path), **fields)
    return data.load(config, resolution=resolution, channels=channels)


def _values(path, **fields):
    """The grey value of each (even) image."""
    images = _load(path, **fields)
    assert np.all(images == images[:, :1, :1, :1])
    return images[:, 0, 0, 0].tolist()


def _error(path, **fields):
    with pytest.raises(ConfigError) as error:
        _load(path, **fields)
    assert "\n" not in str(error.value)
    return str(error.value)


def _save(path, value, size=(4, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("L", size, value).save(path)


def _zip(path, names, content):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, content(name))


@pytest.fixture
def png(tmp_path):
    def content(value, size=(4, 4)):
        path = tmp_path / "one.png"
        _save(path, value, size)
        return path.read_bytes()

    return content


def test_recursive_in_the_order_of_relative_paths(root):
    names = ["b.png", "a/z.png", "a/b/c.png", "a.png", "B.png", "ä.png", "a b.png"]
    for value, name in enumerate(names):
        _save(root / name, value)
    expected = [value for name, value in sorted(zip(names, range(7), strict=True))]
    assert _values(root) == expected


def test_only_visible_files_with_an_images_suffix(root):
    for value, suffix in enumerate(folder.SUFFIXES):
        (root / f"{value:02}").mkdir()
        kind = "jpeg" if suffix == ".jfif" else None
        path = root / f"{value:02}" / f"a{suffix.upper() if value % 2 else suffix}"
        PIL.Image.new("L", (4, 4), value).save(path, kind)
    for name in (".hidden.png", ".hidden/a.png", "a/.hidden/b/c.png"):
        _save(root / name, 99)
    for name in ("labels.txt", "a.npy", "png", "a.png.part", "Thumbs.db"):
        (root / name).write_text("no image")
    (root / "directory.png").mkdir()
    assert _values(root) == list(range(len(folder.SUFFIXES)))


def test_links_inside_count_and_links_outside_do_not(root, tmp_path):
    _save(root / "real" / "a.png", 1)
    _save(tmp_path / "outside" / "a.png", 2)
    (root / "b.png").symlink_to(root / "real" / "a.png")
    (root / "c.png").symlink_to(tmp_path / "outside" / "a.png")
    (root / "d.png").symlink_to("nowhere.png")
    (root / "linked").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    (tmp_path / "link").symlink_to(root)
    assert _values(root) == [1, 1]
    assert _values(tmp_path / "link") == [1, 1]


def test_mixed_sizes_modes_and_kinds(root):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(root / "a.png")
    PIL.Image.fromarray(pixels[:4, :4]).save(root / "b.bmp")
    PIL.Image.fromarray(pixels[..., 0]).save(root / "c.tif")
    PIL.Image.fromarray(pixels).quantize(8).save(root / "d.gif")
    PIL.Image.fromarray(pixels).save(root / "e.jpg")
    for channels in (1, 3):
        images = _load(root, channels=channels)
        assert images.shape == (5, 4, 4, channels)
        for image, path in zip(images, sorted(root.iterdir()), strict=True):
            expected = decoding.to_array(
                decoding.open_image(path),
                resolution=4,
                channels=channels,
                crop="center",
                crop_size=0,
            )
            np.testing.assert_array_equal(image, expected)


def test_many_more_files_than_threads_stay_in_order(root, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    for value in range(100):
        _save(root / f"{value:03}.png", value, (4, 4) if value % 7 else (400, 400))
    assert _values(root) == list(range(100))


def test_only_a_bounded_number_is_read_ahead(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    started = []
    results = parallel.in_order(started.append, range(1000))
    next(results)
    assert len(started) <= 3 * parallel._READ_AHEAD
    results.close()
    assert len(started) < 50


def test_zip_is_read_in_place(tmp_path, cache, png):
    names = ["b.png", "../a.png", "/c.png", "d/", "d/e.PNG", "d/labels.txt", "__MACOSX/d/._e.png"]
    path = tmp_path / "in" / "faces.zip"
    path.parent.mkdir()
    _zip(path, names, lambda name: png(names.index(name)))
    assert _values(path) == [1, 2, 0, 4]  # ../a, /c, b, d/e
    made = {tmp_path / "in", tmp_path / "cache", tmp_path / "one.png"}
    assert set(tmp_path.iterdir()) == made
    assert list(path.parent.iterdir()) == [path]


def test_zip_by_another_name(tmp_path, png):
    _zip(tmp_path / "faces.cbz", ["a.png"], lambda _: png(7))
    assert _values(tmp_path / "faces.cbz") == [7]


def test_zip_with_damaged_members(tmp_path, png, said):
    path = tmp_path / "faces.zip"
    _zip(path, ["a.png", "b.png", "c.png"], lambda name: png(ord(name[0])))
    content = bytearray(path.read_bytes())
    content[content.index(b"b.png") + 20] ^= 255
    path.write_bytes(content)
    assert _values(path, max_bad_fraction=0.5) == [ord("a"), ord("c")]
    line, whole = said
    assert line.startswith("skipped b.png: Bad CRC-32")
    assert whole == f"{path}: 2 images, 1 skipped"


def test_huge_declared_size_is_refused_unread(tmp_path, png, said, monkeypatch):
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", png(1))
        archive.writestr("b.png", bytes(1000))
    monkeypatch.setattr(folder, "MAX_FILE_BYTES", 999)
    read = []
    original = zipfile.ZipFile.read
    monkeypatch.setattr(
        zipfile.ZipFile, "read", lambda self, m: read.append(m.filename) or original(self, m)
    )
    assert _values(path, max_bad_fraction=0.5) == [1]
    assert read == ["a.png"]
    assert said == [
        "skipped b.png: 1000 bytes, 999 are allowed",
        f"{path}: 1 images, 1 skipped",
    ]


@pytest.fixture
def damaged(root):
    """Six good images, values 0 to 5, and four that only look like images."""
    for value in range(6):
        _save(root / f"{value}.png", value)
    (root / "1_empty.jpg").touch()
    (root / "3_text.jpg").write_text("not an\nimage")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(root / "8_cut.jpg")
    (root / "8_cut.jpg").write_bytes((root / "8_cut.jpg").read_bytes()[:-500])
    PIL.Image.new("F", (4, 4)).save(root / "9_float.tif")
    return root


BAD = ["1_empty.jpg", "3_text.jpg", "8_cut.jpg", "9_float.tif"]


def test_bad_files_are_skipped_told_and_kept_in_the_json(damaged, cache, said):
    assert _values(damaged, max_bad_fraction=0.4) == list(range(6))
    assert [line.split(": ")[0] for line in said[:-1]] == [f"skipped {name}" for name in BAD]
    (path,) = cache.glob("*.json")
    skipped = json.loads(path.read_text())["notes"]["skipped"]
    assert list(skipped) == BAD
    assert skipped["1_empty.jpg"].startswith("not a BMP")
    assert skipped["8_cut.jpg"].startswith("OSError: ")
    assert skipped["9_float.tif"].startswith("mode F")
    assert _values(damaged, max_bad_fraction=0.4) == list(range(6))
    assert len(said) == 5


def test_too_many_bad_files_stop_and_nothing_is_kept(damaged, cache):
    message = _error(damaged, max_bad_fraction=0.39)
    assert message.startswith(
        f"config.data.path = {str(damaged)!r}: 4 of the 10 files tried cannot be used, "
        "config.data.max_bad_fraction = 0.39 is allowed: 1_empty.jpg (not a BMP"
    )
    assert "), 3_text.jpg (not a BMP" in message
    assert message.endswith("), ...")
    assert not list(cache.iterdir())


def test_a_hit_keeps_within_the_limit_too(damaged):
    _load(damaged, max_bad_fraction=0.4)
    assert "4 of the 10 files" in _error(damaged, max_bad_fraction=0.0)


def test_hopeless_folder_is_given_up_early(root, monkeypatch):
    monkeypatch.setattr(folder, "_NUM_BAD_SEEN", 5)
    for value in range(50):
        _save(root / f"{value:02}.png", value)
    assert "6 of the 6 files tried" in _error(root, crop="celeba")
    assert "00.png (4×4 pixels; crop 'celeba' needs" in _error(root, crop="celeba")
    assert "11 of the 11 files tried" in _error(root, crop="celeba", max_bad_fraction=0.2)


def test_only_bad_files_are_an_error_at_any_limit(root, cache):
    (root / "a.png").touch()
    assert "1 of the 1 files tried" in _error(root, max_bad_fraction=1.0)
    assert not list(cache.iterdir())


def test_second_load_decodes_nothing(root, monkeypatch):
    _save(root / "a.png", 1)
    _load(root)
    monkeypatch.setattr(decoding, "open_image", lambda _: pytest.fail("decoded again"))
    assert isinstance(_load(root), np.memmap)


def _touch(path):
    times = path.stat().st_mtime_ns
    _save(path, 2, (6, 6))
    os.utime(path, ns=(times, times + 1))


CHANGES = {
    "nothing": lambda root: {},
    "resolution": lambda root: {"resolution": 2},
    "channels": lambda root: {"channels": 1},
    "crop": lambda root: {"crop": "celeba"},
    "crop_size": lambda root: {"crop_size": 4},
    "max_bad_fraction": lambda root: {"max_bad_fraction": 0.1},
    "content": lambda root: _touch(root / "a.png") or {},
    "more": lambda root: _save(root / "b.png", 3, (178, 218)) or {},
    "name": lambda root: (root / "a.png").rename(root / "b.png") and {},
    "ignored": lambda root: (root / "a.txt").touch() or {},
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_setting_is_in_the_key(root, cache, change):
    _save(root / "a.png", 1, (178, 218))
    _load(root)
    _load(root, **CHANGES[change](root))
    num_made = 1 if change in ("nothing", "ignored") else 2
    assert len(list(cache.glob("*.npy"))) == num_made


def test_another_folder_and_another_zip_are_prepared(root, tmp_path, cache, png):
    _save(root / "a.png", 1)
    _load(root)
    (tmp_path / "moved").mkdir()
    root = root.rename(tmp_path / "moved" / root.name)
    assert _values(root) == [1]
    for value in (2, 3):  # same names, sizes and, for all we know, times
        _zip(tmp_path / "a.zip", ["a.png"], lambda _, value=value: png(value))
        assert _values(tmp_path / "a.zip") == [value]
    assert len(list(cache.glob("*.npy"))) == 4


def test_unusable_paths_are_one_line(root, tmp_path, png):
    def text(path):
        return f"config.data.path = {str(path)!r}: "

    missing, plain, cut, empty = (tmp_path / name for name in ("none", "a.png", "b.zip", "c.zip"))
    plain.write_bytes(png(1))
    _zip(cut, ["a.png"], lambda _: png(1))
    cut.write_bytes(cut.read_bytes()[:-30])
    _zip(empty, ["readme.txt"], lambda _: b"")
    assert _error(missing) == text(missing) + "no such directory or .zip file"
    for path in (plain, cut):
        expected = text(path) + "a directory or an undamaged .zip is needed ("
        assert _error(path).startswith(expected)
    for path in (root, empty):
        assert _error(path).startswith(text(path) + "no images in it; they end in .bmp, ")


def test_unreadable_directory_is_not_passed_over(root, monkeypatch):
    _save(root / "a.png", 1)
    (root / "closed").mkdir()
    original = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "faces': [Errno 13] Permission denied: " in _error(root)


def test_home_is_expanded(root, monkeypatch):
    _save(root / "a.png", 1)
    monkeypatch.setenv("HOME", str(root.parent))
    assert _values("~/faces") == [1]
