import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from began_jax import errors, files, grids, pixels


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def interrupted():
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_keeps_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("")
    files.write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_the_cache_is_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("BEGAN_JAX_CACHE", "/a")
    assert files.cache_dir() == Path("/a")
    monkeypatch.setenv("BEGAN_JAX_CACHE", "~/a")
    assert files.cache_dir() == Path.home() / "a"
    monkeypatch.setenv("BEGAN_JAX_CACHE", "")  # as if it were not set
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert files.cache_dir() == Path("/b/began_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert files.cache_dir() == Path("/c/.cache/began_jax")


def test_a_grid_goes_row_by_row():
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1) + np.full((5, 2, 3, 1), 10, np.uint8)
    grid = grids.grid(images)
    assert grid.shape == (2 * 2, 3 * 3, 1)
    np.testing.assert_array_equal(grid[::2, ::3, 0], [[10, 11, 12], [13, 14, 255]])
    assert (grid[:2, :3] == 10).all()


def test_gaps_are_white_and_between_cells_only():
    grid = grids.grid(np.zeros((4, 2, 2, 1), np.uint8), gap=1)
    assert grid.shape == (5, 5, 1)
    assert (grid[2] == 255).all()
    assert (grid[:, 2] == 255).all()
    assert grid.sum() == 9 * 255
    beside = grids.beside([np.zeros((2, 3, 3), np.uint8), np.zeros((2, 1, 3), np.uint8)])
    np.testing.assert_array_equal(beside[0, :, 0], [0, 0, 0, 255, 255, 0])


def test_small_images_are_enlarged_to_64_pixels_or_more():
    picture = np.arange(20, dtype=np.uint8).reshape(1, 20, 1)
    np.testing.assert_array_equal(grids.enlarged(picture, 64), picture)
    assert grids.enlarged(picture, 48).shape == (2, 40, 1)
    np.testing.assert_array_equal(grids.enlarged(picture, 32)[::2, ::2], picture)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_the_very_pixels(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 256, (6, 4, channels), np.uint8)
    grids.save_png(tmp_path / "new" / "a.png", image)
    read = np.asarray(Image.open(tmp_path / "new" / "a.png")).reshape(image.shape)
    np.testing.assert_array_equal(read, image)


def test_pixels_survive_the_way_to_float_and_back():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    floats = np.asarray(pixels.to_float(images))
    assert (floats.min(), floats.max()) == (-0.5, 0.5)
    np.testing.assert_array_equal(pixels.to_uint8(floats), images)
    np.testing.assert_array_equal(pixels.to_uint8(np.array([-9.0, 9.0])), [0, 255])


def test_a_lock_is_waited_for_as_long_as_the_patience_lasts(tmp_path):
    with (
        files.exclusive(tmp_path),
        pytest.raises(errors.UserError, match="another process"),
        files.exclusive(tmp_path, patience_seconds=0.5),
    ):
        pass
    held = files.exclusive(tmp_path)
    held.__enter__()
    threading.Timer(0.3, lambda: held.__exit__(None, None, None)).start()
    with files.exclusive(tmp_path, patience_seconds=30):
        pass


def lock_folder(path):
    return files.exclusive(path.parent)


@pytest.mark.parametrize("lock", [lock_folder, files.one_at_a_time])
def test_a_lock_changes_no_file(tmp_path, lock):
    path = tmp_path / ".lock"
    path.write_text("the user's")
    with lock(path):
        assert path.read_text() == "the user's"
    path.rename(tmp_path / "mine")
    for target in (tmp_path / "mine", tmp_path / "nowhere"):
        path.symlink_to(target)
        with pytest.raises(errors.UserError, match="must not be a symbolic link"), lock(path):
            pass
        path.unlink()
    assert {found.name: found.read_text() for found in tmp_path.iterdir()} == {"mine": "the user's"}


def test_a_link_is_not_replaced(tmp_path):
    (tmp_path / "mine").write_text("the user's")
    (tmp_path / "a.txt").symlink_to(tmp_path / "mine")
    with pytest.raises(errors.UserError, match="must not be a symbolic link"):
        files.write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "a.txt"}


def test_one_at_a_time_waits_for_the_other(tmp_path):
    order = []

    def other():
        with files.one_at_a_time(tmp_path / "new" / "lock"):
            order.append("other")

    with files.one_at_a_time(tmp_path / "new" / "lock"):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(30)
    assert order == ["first", "other"]
