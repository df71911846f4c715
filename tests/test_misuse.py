"""The modes that read a checkpoint, as real processes, given what they cannot use."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from began_jax import train
from tests.conftest import ROOT, make_config

R = 16


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder, beside it a folder without checkpoints and one cache for all processes."""
    root = tmp_path_factory.mktemp("misuse")
    rng = np.random.default_rng(0)
    np.save(root / "x.npy", rng.integers(0, 256, (1100, R, R, 3), np.uint8))
    config = make_config(data__source="array", data__path=str(root / "x.npy"))
    train.train(config, root / "run")
    (root / "unsaved").mkdir()
    shutil.copy(root / "run" / "config.json", root / "unsaved")
    for name in ("moved", "changed"):  # its data
        shutil.copytree(root / "run", root / name)
        config = (root / name / "config.json").read_text()
        (root / name / "config.json").write_text(config.replace("x.npy", f"{name}.npy"))
    np.save(root / "changed.npy", rng.integers(0, 256, (1100, R, R, 3), np.uint8))
    np.save(root / "gray.npy", rng.integers(0, 256, (2, R, R, 1), np.uint8))
    np.save(root / "float.npy", rng.random((2, R, R, 3)))
    (root / "text.png").write_text("no image")
    Image.fromarray(rng.integers(0, 256, (R, R, 3), np.uint8)).save(root / "whole.png")
    (root / "cut.png").write_bytes((root / "whole.png").read_bytes()[:200])
    return root


def main(root, *arguments):
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "BEGAN_JAX_CACHE": str(root / "cache")}
    command = [sys.executable, str(ROOT / "main.py"), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=root, env=environment, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--workdir=unsaved --mode=sample", "no readable checkpoint"),
        ("--workdir=unsaved --mode=evaluate --every_checkpoint", "no readable checkpoint"),
        ("--workdir=nowhere --mode=evaluate", "nowhere/config.json: not there"),
        ("--workdir=run --mode=evaluate --step=5", "no checkpoint of step 5; there are [6]"),
        ("--workdir=run --mode=evaluate --num=999", "--num=999: 1000 samples"),
        ("--workdir=run --mode=evaluate --step=6 --every_checkpoint", "--step=6: --every"),
        ("--workdir=run --mode=evaluate --network=inception", "config.eval.weights is needed"),
        ("--workdir=run --mode=reconstruct --images=text.png", "text.png: "),
        ("--workdir=run --mode=invert --images=cut.png", "cut.png: "),
        ("--workdir=run --mode=reconstruct --images=gray.npy", "gray.npy"),
        ("--workdir=run --mode=reconstruct --images=float.npy", "float.npy"),
        ("--workdir=run --mode=reconstruct --images=absent.png", "absent.png: "),
        ("--workdir=run --mode=reconstruct --images=absent.npy", "--images=absent.npy: no such"),
        ("--workdir=run --mode=reconstruct --images=absent.zip", "--images=absent.zip: no such"),
        ("--workdir=run --mode=reconstruct --images=unsaved", "--images=unsaved: no images in it"),
        ("--workdir=run --mode=reconstruct --images=,", "--images=,: no image is named"),
        ("--workdir=moved --mode=evaluate", "moved.npy"),
        ("--workdir=changed --mode=evaluate", "not those of changed's run"),
        ("--workdir=run --mode=sample --out=x.gif", "--out=x.gif: a .png"),
        ("--workdir=run --mode=sample --out=", "--out: a path is needed"),
        ("--workdir=run --mode=sample --out=/etc/hostname/x.png", "/etc/hostname"),
        ("--workdir=run --mode=interpolate --images=text.png", "--images: --between=latents"),
        ("--workdir=run --mode=evaluate --seed=4294967295", "--seed=4294967295: 3 seeds"),
        ("--workdir=run --mode=sample --columns=3", "--columns: --mode=sample takes"),
    ],
)
def test_it_is_one_line_and_a_status(run, arguments, message):
    before = sorted(run.rglob("*"))
    status, out, err = main(run, *arguments.split())
    assert message in err
    assert len(err.splitlines()) == 1, err
    assert status == 2
    assert out == ""
    assert [path for path in sorted(run.rglob("*")) if path not in before] == []


@pytest.mark.slow
def test_a_damaged_reference_is_one_line_and_a_status(run):
    evaluate = ["--workdir=run", "--mode=evaluate", "--num=1000", "--num_seeds=1"]
    status, out, err = main(run, *evaluate)
    assert status == 0, err
    assert "fd_random_conv" in out
    (reference,) = (run / "cache" / "references").iterdir()
    reference.write_bytes(reference.read_bytes()[:-100])
    status, out, err = main(run, *evaluate)
    assert status == 2
    assert len(err.splitlines()) == 1, err
    assert "the reference cannot be read" in err
