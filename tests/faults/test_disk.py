"""Disks that are full, read-only or change under a run, for real."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.faults import soak

RUN = [*soak.SMALL, "--config.train.num_steps=60", "--config.train.checkpoint_every_steps=20"]
ENVIRONMENT = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}

_TRY = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]  # in a namespace of its own
_TRIED = subprocess.run(["sh", "-c", " ".join(_TRY)], check=False, capture_output=True)
needs_mounts = pytest.mark.skipif(
    bool(_TRIED.returncode), reason="no `unshare -rm` here: no root, no user ns"
)


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory):
    ENVIRONMENT["BEGAN_JAX_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def main(*arguments):
    done = subprocess.run(
        [sys.executable, "main.py", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
        timeout=200,
        check=False,
    )
    return done.returncode, done.stdout, [line for line in done.stderr.splitlines() if line]


def script(tmp_path, text):
    """Runs a shell script whose mounts nobody else sees; MAIN, RUN and DISK are set."""
    (tmp_path / "disk").mkdir()
    values = {"MAIN": f"{sys.executable} main.py", "RUN": " ".join(RUN), "DISK": tmp_path / "disk"}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", text],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**ENVIRONMENT, **{name: str(value) for name, value in values.items()}},
        timeout=200,
        check=False,
    )
    return done.stdout.splitlines(), done.stderr.splitlines()


@pytest.mark.slow
@needs_mounts
def test_a_full_disk_ends_in_a_line_and_loses_nothing(tmp_path):
    assert main(*RUN, f"--workdir={tmp_path / 'undisturbed'}")[0] == 0
    _, expected, _ = main(f"--workdir={tmp_path / 'undisturbed'}", "--mode=fingerprint")
    out, err = script(
        tmp_path,
        "mount -t tmpfs -o size=2m none $DISK || exit\n"
        "$MAIN $RUN --workdir=$DISK/run; echo $?\n"
        "mount -o remount,size=100m $DISK\n"
        "$MAIN $RUN --workdir=$DISK/run; echo $?\n"
        "$MAIN --workdir=$DISK/run --mode=fingerprint\n",
    )
    assert out[:2] == ["2", "0"], err
    assert f"{out[2]}\n" == expected
    told = [line for line in err if "No space left on device" in line]
    assert 1 <= len(told) <= 2  # the run's end, and TensorBoard's if it was the first to notice
    assert not any("Traceback" in line for line in err)


@needs_mounts
def test_a_folder_that_may_not_be_written_is_a_line(tmp_path):
    out, err = script(
        tmp_path,
        "mount -t tmpfs none $DISK && mkdir $DISK/run && mount -o remount,ro $DISK || exit\n"
        "$MAIN $RUN --workdir=$DISK/run; echo $?\n",
    )
    assert out == ["2"]
    assert "Read-only file system" in err[-1]
    assert not any("Traceback" in line for line in err)


def small_run_on_an_array(tmp_path, num_steps):
    return [
        *RUN,
        "--config.data.source=array",
        f"--config.data.path={tmp_path / 'x.npy'}",
        f"--config.train.num_steps={num_steps}",
        f"--workdir={tmp_path / 'run'}",
    ]


def start_and_wait_for_a_record(tmp_path):
    run = small_run_on_an_array(tmp_path, soak.ENDLESS)
    told = tmp_path / "told"
    with told.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "main.py", *run], stderr=file, cwd=ROOT, env=ENVIRONMENT
        )
    while "step 40/" not in told.read_text():
        assert process.poll() is None, told.read_text()
        time.sleep(0.1)
    return process


@pytest.mark.slow
def test_a_data_file_that_is_cut_or_removed_in_mid_run_loses_nothing(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3000, 16, 16, 3), np.uint8)
    np.save(tmp_path / "x.npy", images)
    content = (tmp_path / "x.npy").read_bytes()

    # Cut: what lies behind the cut is no longer there to be read, and the system ends the process.
    process = start_and_wait_for_a_record(tmp_path)
    os.truncate(tmp_path / "x.npy", 4096)
    assert process.wait(60) == -signal.SIGBUS
    status, _, err = main(*small_run_on_an_array(tmp_path, 100))
    assert status == 2
    assert len(err) == 1
    assert "no undamaged .npy" in err[0]

    # Removed: the run has it open and goes on.
    (tmp_path / "x.npy").write_bytes(content)
    process = start_and_wait_for_a_record(tmp_path)
    (tmp_path / "x.npy").unlink()
    time.sleep(1)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    status, _, err = main(*small_run_on_an_array(tmp_path, 100))
    assert (status, len(err)) == (2, 1)
    assert "no such file" in err[0]
