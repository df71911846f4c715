"""The store of prepared images: made once, whole or not at all, and never the wrong one."""

import io
import json
import os
import shutil
import sys
import threading

import numpy as np
import pytest

from began_jax import data, errors, progress
from began_jax.data import cache, synthetic_faces
from tests.conftest import make_data_config

SHAPE = (4, 4, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)


@pytest.fixture
def folder(cache_dir):
    return cache_dir / "images"


def _prepared(images=IMAGES, key=None, num_images=5, shape=SHAPE, **kwargs):
    return cache.prepared(
        key or {"a": 1}, num_images, shape, iter(images), label="some label", **kwargs
    )


def _never():
    pytest.fail("prepared again")
    yield


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_images_come_back_read_only_and_mapped():
    mapped = _prepared()
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, IMAGES)


def test_file_is_a_plain_npy_with_its_key_beside_it(folder):
    notes = {}

    def images():
        yield from IMAGES
        notes["skipped"] = {"b.jpg": "truncated"}

    _prepared(images(), key={"path": "ü", "size": (1, 2)}, notes=notes)
    text, array = _names(folder)
    assert array.startswith("some-label-")
    assert (array.removesuffix(".npy"), ".json") == os.path.splitext(text)
    np.testing.assert_array_equal(np.load(folder / array, allow_pickle=False), IMAGES)
    kept = json.loads((folder / text).read_text())
    assert kept["key"] == {"path": "ü", "size": [1, 2]}
    assert kept["notes"] == {"skipped": {"b.jpg": "truncated"}}


def test_label_makes_no_directories(folder):
    cache.prepared({}, 5, SHAPE, IMAGES, label="../set/config:1.0.0 train[:3] " + "x" * 300)
    assert all(name.startswith("set-config-1-0-0-train-3-xxx") for name in _names(folder))


def test_second_call_makes_nothing():
    _prepared()
    np.testing.assert_array_equal(_prepared(_never()), IMAGES)


def test_order_of_the_keys_fields_does_not_matter():
    _prepared(key={"a": 1, "b": 2})
    _prepared(_never(), key={"b": 2, "a": 1})


@pytest.mark.parametrize(
    "change",
    [{"key": {"a": 2}}, {"key": {"a": 1, "b": 0}}, {"num_images": 6}, {"shape": (2, 8, 3)}],
)
def test_every_argument_is_in_the_name(folder, change):
    _prepared()
    _prepared((255 - IMAGES).reshape(-1, *change.get("shape", SHAPE)), **change)
    assert len(_names(folder)) == 4
    np.testing.assert_array_equal(_prepared(_never()), IMAGES)


def test_version_is_in_the_name(monkeypatch):
    _prepared()
    monkeypatch.setattr(cache, "_PREPARATION_VERSION", 2)
    np.testing.assert_array_equal(_prepared(255 - IMAGES), 255 - IMAGES)


def test_blocks_single_images_and_skipped_ones_mix():
    mapped = _prepared([IMAGES[:2], None, IMAGES[2], IMAGES[3:4]])
    np.testing.assert_array_equal(mapped, IMAGES[:4])
    np.testing.assert_array_equal(_prepared(_never()), IMAGES[:4])


def test_images_that_are_not_contiguous():
    np.testing.assert_array_equal(_prepared(IMAGES[:, ::-1, ::-1]), IMAGES[:, ::-1, ::-1])


def _longer(raw):
    return raw + bytes(1)


def _cut(raw):
    return raw[:-1]


def _without_last_image(raw):
    return raw[: -IMAGES[0].size]


def _cut_in_header(raw):
    return raw[:50]


def _npy(images):
    buffer = io.BytesIO()
    np.save(buffer, images)
    return buffer.getvalue()


def _other_shape(_):
    return _npy(IMAGES.reshape(5, 2, 8, 3))


def _no_images(_):
    return _npy(IMAGES[:0])


def _too_many_images(_):
    return _npy(IMAGES.repeat(2, 0))


def _other_type(raw):
    return raw.replace(b"|u1", b"|i1")


@pytest.mark.parametrize(
    "damage",
    [
        _longer,
        _cut,
        _without_last_image,
        _cut_in_header,
        _other_shape,
        _other_type,
        _no_images,
        _too_many_images,
        lambda _: b"",
    ],
)
def test_damaged_file_is_prepared_again(folder, damage):
    _prepared()
    (path,) = folder.glob("*.npy")
    path.write_bytes(damage(path.read_bytes()))
    np.testing.assert_array_equal(_prepared(255 - IMAGES), 255 - IMAGES)
    np.testing.assert_array_equal(_prepared(_never()), 255 - IMAGES)


class _Interrupt(BaseException):
    pass


@pytest.mark.parametrize("error", [_Interrupt, KeyboardInterrupt, ValueError])
def test_interruption_leaves_nothing(folder, error):
    def images():
        yield from IMAGES[:3]
        assert len(_names(folder)) == 1  # the temporary file, in the same directory
        raise error

    with pytest.raises(error):
        _prepared(images())
    assert _names(folder) == []


def test_interruption_keeps_an_older_file(folder):
    _prepared()
    before = _names(folder)
    with pytest.raises(ValueError, match="expected uint8"):
        _prepared([np.zeros(SHAPE)], key={"other": 1})
    assert _names(folder) == before


@pytest.mark.parametrize(
    ("images", "text"),
    [
        ([], "0 images came, expected 1 to 5"),
        ([None] * 5, "0 images came"),
        ([*IMAGES, IMAGES[0]], "6 images came"),
        ([IMAGES[0].astype(np.float32)], "float32 .* came, expected uint8"),
        ([IMAGES[0, :2]], r"uint8 \(2, 4, 3\) came"),
        ([IMAGES[:, :2]], r"uint8 \(5, 2, 4, 3\) came"),
    ],
)
def test_wrong_images_are_refused(folder, images, text):
    with pytest.raises(ValueError, match=text):
        _prepared(images)
    assert _names(folder) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("block_size", [1, 1000])
def test_full_disk_is_one_line(folder, monkeypatch, block_size):
    def images():
        (temporary,) = folder.iterdir()
        full = os.open("/dev/full", os.O_WRONLY)
        (descriptor,) = _descriptors_of(temporary)
        os.dup2(full, descriptor)  # from now on its writes fail
        os.close(full)
        yield np.zeros((block_size, *SHAPE), np.uint8)

    with pytest.raises(errors.UserError, match=r"images: No space left .*\$BEGAN_JAX_CACHE"):
        _prepared(images(), num_images=1000)
    assert _names(folder) == []


def _descriptors_of(path):
    folder = "/proc/self/fd"
    links = {n: f"{folder}/{n}" for n in os.listdir(folder)}
    return [
        int(n)
        for n, link in links.items()
        if os.path.exists(link) and os.readlink(link) == str(path)
    ]


def test_too_little_space_is_told_before_the_work(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 239))
    with pytest.raises(errors.UserError, match=r"0\.00 GB are needed, 0\.00 GB are free"):
        _prepared(_never())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 240))
    _prepared()


def test_cache_that_is_a_file_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BEGAN_JAX_CACHE", str(tmp_path / "file"))
    with pytest.raises(errors.UserError, match=r"file/images: .*\$BEGAN_JAX_CACHE"):
        _prepared()


def test_of_two_at_once_one_prepares_and_the_other_waits():
    found = []
    other = threading.Thread(target=lambda: found.append(_prepared(_never())))

    def images():
        yield IMAGES[0]
        other.start()
        other.join(0.3)
        assert found == []
        yield from IMAGES[1:]

    np.testing.assert_array_equal(_prepared(images()), IMAGES)
    other.join(30)
    np.testing.assert_array_equal(found[0], IMAGES)


def test_leftovers_of_killed_preparations_go_after_a_day(folder):
    folder.mkdir(parents=True)
    name = f".some-label-{64 * 'a'}.npy."
    old, young = folder / f"{name}{32 * '1'}", folder / f"{name}{32 * '2'}"
    others = [folder / ".photos.npy.bak", folder / f"{name}{31 * '1'}", folder / f"{name}old"]
    for path in (old, young, *others):
        path.touch()
    (folder / f"{name}{32 * '3'}").mkdir()
    (folder / f"{name}{32 * '4'}").symlink_to(others[0])
    for path in (folder, *folder.iterdir()):
        if path != young:
            os.utime(path, (0, 0), follow_symlinks=False)
    before = {path.name for path in folder.iterdir()}
    _prepared()
    assert before - {path.name for path in folder.iterdir()} == {old.name}


def test_progress_without_a_terminal_is_plain_lines(monkeypatch, capsys):
    _prepared([IMAGES[:3], None, IMAGES[3]])
    first, line = capsys.readouterr().err.splitlines()
    assert first == "preparing some label: 5 images"
    assert line.startswith("preparing some label: 5/5, ")
    assert line.endswith(" images/s")
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    _prepared([IMAGES[:3], IMAGES[3:]], key={"b": 1})
    printed = capsys.readouterr().err
    assert [line.split()[3] for line in printed.splitlines()] == ["5", "3/5,", "5/5,", "5/5,"]
    assert "\r" not in printed


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    _prepared([IMAGES[:3], None, IMAGES[3]])
    assert "\r" in terminal.getvalue()
    assert "preparing some label: 100%" in terminal.getvalue()
    assert "5/5" in terminal.getvalue()
    assert "images/s" in terminal.getvalue()


SYNTHETIC = make_data_config("synthetic_faces", num_images=5)


def test_synthetic_faces_in_blocks_are_the_faces(monkeypatch):
    monkeypatch.setattr(data, "_BLOCK", 2)
    expected, _ = synthetic_faces.generate(0, np.arange(5), 16, 3)
    np.testing.assert_array_equal(data.load(SYNTHETIC, resolution=16, channels=3), expected)
    monkeypatch.setattr(synthetic_faces, "generate", lambda *_: pytest.fail("drawn again"))
    np.testing.assert_array_equal(data.load(SYNTHETIC, resolution=16, channels=3), expected)


def test_new_version_of_the_faces_is_drawn(monkeypatch):
    data.load(SYNTHETIC, resolution=16, channels=1)
    new = np.zeros((5, 16, 16, 1), np.uint8)
    monkeypatch.setattr(synthetic_faces, "generate", lambda *_: (new, None))
    assert data.load(SYNTHETIC, resolution=16, channels=1).any()
    monkeypatch.setattr(synthetic_faces, "VERSION", synthetic_faces.VERSION + 1)
    assert not data.load(SYNTHETIC, resolution=16, channels=1).any()
