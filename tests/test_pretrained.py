"""The run that comes with the repository."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from began_jax import generate, grids, pictures, pixels, restoring
from tests.conftest import ROOT

WORKDIR = ROOT / "pretrained" / "faces32"


@pytest.fixture
def workdir(tmp_path):
    """A copy that may be written to."""
    return shutil.copytree(WORKDIR, tmp_path / "faces32")


def test_it_is_small_and_tells_where_it_comes_from():
    folders = ("checkpoints", "samples")  # but for what modes have written, which git ignores
    kept = [path for folder in folders for path in (WORKDIR / folder).rglob("*")]
    size = sum(path.stat().st_size for path in [*kept, *WORKDIR.glob("*.json*")])
    assert 1_000_000 < size <= 2_000_000
    starts = json.loads((WORKDIR / "provenance.json").read_text(encoding="utf-8"))
    assert all(len(start["commit"]) == 40 for start in starts)
    assert not any(start["uncommitted_changes"] for start in starts)
    assert all(start["command"][0] == "main.py" for start in starts)


def test_its_last_grid_is_what_its_checkpoint_makes(workdir):
    config, state = restoring.restore(workdir, None)
    assert int(state.step) == config.train.num_steps
    samples, spread, _ = generate.fixed_samples(config, state)
    grid = grids.grid(pixels.to_uint8(np.asarray(samples)))
    made = grids.enlarged(grid, config.model.resolution)
    num_images = config.train.num_steps * config.train.batch_size
    with Image.open(workdir / "samples" / f"{num_images:09d}.png") as picture:
        kept = np.asarray(picture, float)
    assert kept.shape == made.shape
    assert np.abs(kept - made).max() <= 1  # another machine's rounding
    assert float(spread) > 0.05  # they are not all alike


def test_samples_and_interpolations_come_of_it(workdir):
    (grid,) = pictures.sample(workdir, num=9, seed=1, average=True)
    (rows,) = pictures.interpolate(
        workdir, between="latents", num=2, columns=3, seed=0, spherical=False, average=True
    )
    for path, size in ((grid, (3 * 64, 3 * 64)), (rows, (3 * 64, 2 * 64))):
        with Image.open(path) as picture:
            assert picture.size == size
            assert np.asarray(picture).std() > 20
