"""What the launchers' shell scripts call, with stand-ins for what is not on this machine."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from tests.conftest import ROOT

SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), *sorted((ROOT / "tests").rglob("*.sh"))]

# A slice of two hosts, each a folder; `scp` copies, `ssh` runs the command there.
GCLOUD = r"""#!/usr/bin/env bash
echo "$*" >> "$HOSTS/calls"
for argument; do
    case $argument in
        --worker=*) worker=${argument#*=} ;;
        --command=*) command=${argument#*=} ;;
    esac
done
[ "$worker" = all ] && worker="0 1"
for host in $worker; do
    if [ "$4" = scp ]; then cp "$5" "$HOSTS/$host/${6#*:}"
    else (cd "$HOSTS/$host" && bash -c "$command"); fi
done
"""
PYTHON = r"""#!/usr/bin/env bash
[ "$1" = -m ] && exit  # a virtual environment
[ "$1" = -c ] && exit "$OLD"  # asked for its version
printf '%s\n' "$@" > arguments
trap 'echo saved; exit 143' TERM
while true; do sleep 0.02; done
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_executable_and_sound(script):
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", script], check=True)


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """Two hosts with a checkout whose Python is a stand-in."""
    for host in ("0", "1"):
        (tmp_path / host / "began-jax" / ".venv" / "bin").mkdir(parents=True)
        executable(tmp_path / host / "began-jax" / ".venv" / "bin" / "python", PYTHON)
        executable(tmp_path / host / "began-jax" / ".venv" / "bin" / "pip", "#!/bin/sh\n")
    (tmp_path / "bin").mkdir()
    executable(tmp_path / "bin" / "gcloud", GCLOUD)
    executable(tmp_path / "bin" / "python3", PYTHON)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("HOSTS", str(tmp_path))
    monkeypatch.setenv("OLD", "0")
    monkeypatch.setenv("TPU", "slice")
    monkeypatch.setenv("ZONE", "zone")
    return [tmp_path / "0" / "began-jax", tmp_path / "1" / "began-jax"]


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)


def tpu_pod(*arguments):
    script = ROOT / "launch" / "tpu_pod.sh"
    return subprocess.run([script, *arguments], capture_output=True, text=True, timeout=60)


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_tpu_pod_is_set_up_trains_on_all_hosts_and_saves_when_stopped(hosts):
    assert tpu_pod("setup").returncode == 0
    given = ["--config=configs/demo.py", "--config.data.path=a b's $HOME", "--workdir=runs/x"]
    assert tpu_pod("train", *given).returncode == 0
    for host in hosts:
        assert (host / "main.py").read_bytes() == (ROOT / "main.py").read_bytes()
        wait_for((host / "arguments").exists)
        told = (host / "arguments").read_text().splitlines()
        assert told == ["main.py", "--distributed", *given]
    assert tpu_pod("stop").returncode == 0
    for host in hosts:
        wait_for(lambda host=host: (host / "train.log").read_text() == "saved\n")
    assert tpu_pod("log", "all").stdout == "saved\nsaved\n"
    calls = (hosts[0].parents[1] / "calls").read_text()
    assert len(re.findall("slice.* --zone=zone .*--worker=all", calls)) == calls.count("tpu-vm ")


def test_a_host_whose_python_is_too_old_is_told(hosts, monkeypatch):
    monkeypatch.setenv("OLD", "1")
    done = tpu_pod("setup")
    assert done.returncode == 2
    assert "python3: Python 3.11 or newer is needed (PYTHON=...)" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "unset", "message"),
    [
        ((), None, "launch/tpu_pod.sh setup"),
        (("trian",), None, "launch/tpu_pod.sh setup"),
        (("setup",), "TPU", "TPU: the name of the slice is needed"),
    ],
)
def test_wrong_use_of_a_tpu_pod_s_script_is_told(hosts, monkeypatch, arguments, unset, message):
    if unset:
        monkeypatch.delenv(unset)
    done = tpu_pod(*arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert not (hosts[0].parents[1] / "calls").exists()


def test_slurm_s_script_wants_to_be_submitted_in_the_checkout(tmp_path):
    done = subprocess.run(
        [ROOT / "launch" / "slurm.sh"],
        env={**os.environ, "SLURM_SUBMIT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("state", "status", "requeued"),
    [
        ("RUNNING", 143, True),
        ("CANCELLED", 143, False),
        ("RUNNING", 2, False),
        ("RUNNING", 0, False),
    ],
)
def test_slurm_s_script_requeues_what_has_saved_unless_it_was_cancelled(
    tmp_path, monkeypatch, state, status, requeued
):
    executable(tmp_path / "srun", f"#!/bin/sh\nexit {status}\n")
    executable(tmp_path / "squeue", f"#!/bin/sh\necho {state}\n")
    executable(tmp_path / "scontrol", '#!/bin/sh\necho "$@"\n')
    executable(tmp_path / "sleep", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    done = subprocess.run(
        [ROOT / "launch" / "slurm.sh", "--config=configs/demo.py"],
        env={**os.environ, "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "7"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (status, "requeue 7\n" * requeued)


def test_slurm_s_script_passes_a_signal_on_and_waits_for_the_save(tmp_path, monkeypatch):
    """The step goes on after the signal, as a run that saves does."""
    executable(
        tmp_path / "srun",
        f"#!/bin/sh\ntouch {tmp_path}/begun\n"
        f"while [ ! -e {tmp_path}/asked ]; do sleep 0.02; done\nsleep 0.5; exit 143\n",
    )
    executable(tmp_path / "scancel", f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    executable(tmp_path / "squeue", "#!/bin/sh\necho CANCELLED\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    process = subprocess.Popen(
        [ROOT / "launch" / "slurm.sh"],
        env={**os.environ, "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "7"},
    )
    wait_for((tmp_path / "begun").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    assert (tmp_path / "asked").read_text() == "--signal=TERM 7\n"
