"""launch/slurm.sh and launch/sweep.py --run=slurm on a real SLURM: `make test-slurm`."""

import os
import re
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

pytestmark = [
    pytest.mark.skipif("SLURM_CONF" not in os.environ, reason="no cluster; see cluster.sh"),
    pytest.mark.timeout(1200),
]

RUN = [
    *(f"--config={ROOT}/configs/demo.py", "--config.model.resolution=16", "--config.model.n=4"),
    *("--config.data.num_images=64", "--config.train.num_samples=4"),
    *("--config.train.log_every_steps=50", "--config.train.checkpoint_every_steps=10000"),
]
ENDLESS = 10**8


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    """Jobs get what sbatch has; each has one processor."""
    monkeypatch.setenv("BEGAN_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    monkeypatch.setenv("PATH", f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")


def output(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def submit(folder, workdir, num_steps, *options):
    """Two tasks, one on each node; logs go to the folder."""
    sbatch = ["sbatch", "--parsable", "--nodes=2", "--ntasks-per-node=1", f"--chdir={folder}"]
    script = ["launch/slurm.sh", *RUN, f"--workdir={workdir}"]
    return output(*sbatch, *options, *script, f"--config.train.num_steps={num_steps}").strip()


def told(folder, job):
    """All that a job's tasks have said."""
    return "".join(path.read_text() for path in sorted(folder.glob(f"began-{job}-*.log")))


def state(job):
    return output("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}").strip()


def wait_until(condition, job, seconds=300):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        assert state(job) not in ("FAILED", "TIMEOUT", "NODE_FAIL"), output(
            "scontrol", "show", "job", job
        )
        time.sleep(0.5)
    return found


def fingerprint(workdir):
    return output(sys.executable, "main.py", "--mode=fingerprint", f"--workdir={workdir}")


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def test_requeued_preempted_and_out_of_time_it_ends_as_an_undisturbed_run(tmp_path):
    run = tmp_path / "run"
    job = submit(tmp_path, run, ENDLESS, "--time=2", "--signal=B:TERM@60")

    def saved():
        return [
            int(step) for step in re.findall(r"SIGTERM: saved at step (\d+)", told(tmp_path, job))
        ]

    def disturb(name, act):
        """Once a step was recorded since the last start; returns when the run has gone on."""
        since = saved()[-1] if saved() else 0

        def has_trained():
            steps = re.findall(r"\nstep (\d+)/", told(tmp_path, job))
            return steps and int(steps[-1]) > since

        wait_until(has_trained, job)
        num = len(saved())
        act()
        wait_until(lambda: len(saved()) > num, job)
        say(f"{name}: saved at step {saved()[-1]}")
        wait_until(lambda: f"goes on from step {saved()[-1]}\n" in told(tmp_path, job), job)
        say(f"job {job} goes on from step {saved()[-1]}")

    disturb("scontrol requeue", lambda: output("scontrol", "requeue", job))
    urgent = ["srun", "--partition=urgent", "--nodes=2", "true"]
    disturb("preempted", lambda: output(*urgent))
    disturb("time limit", lambda: None)
    output("scancel", job)
    wait_until(lambda: state(job) == "CANCELLED", job)
    say(f"scancel: {state(job)}, saved at step {saved()[-1]}")

    num_steps = saved()[-1] + 100
    for workdir in (run, tmp_path / "whole"):
        began = time.monotonic()
        job = submit(tmp_path, workdir, num_steps)
        wait_until(lambda job=job: state(job) == "COMPLETED", job, seconds=600)
        say(f"job {job} COMPLETED after {time.monotonic() - began:.0f} s")
    assert fingerprint(run) == fingerprint(tmp_path / "whole")
    say(fingerprint(run).strip())


def test_a_refused_run_fails_and_is_not_requeued(tmp_path):
    sbatch = ["sbatch", "--wait", "--nodes=2", "--ntasks-per-node=1", f"--chdir={tmp_path}"]
    done = subprocess.run(
        [*sbatch, "launch/slurm.sh", *RUN, "--config.train.batch_size=3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    job = re.search(r"\d+", done.stdout)[0]
    assert "config.train.batch_size = 3: a multiple of the 2 devices is needed" in told(
        tmp_path, job
    )


def test_a_sweep_is_a_job_array(tmp_path):
    folder = tmp_path / "sweep"
    sweep = [sys.executable, "launch/sweep.py", *RUN, "--config.train.num_steps=100"]
    grid = ["--grid=config.began.gamma=0.3,0.7", "--seeds=2", f"--workdir={folder}"]
    done = subprocess.run(
        [*sweep, *grid, "--run=slurm", "--slurm_time=10"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    say(done.stderr)
    jobs = re.findall(r"job (\d+_\d+):", done.stderr)
    assert len(jobs) == 4
    for job in jobs:
        wait_until(lambda job=job: state(job) == "COMPLETED", job)
    names = [f"gamma={gamma},seed={seed}" for gamma in (0.3, 0.7) for seed in (0, 1)]
    found = {name: fingerprint(folder / name).strip() for name in names}
    assert len(set(found.values())) == 4
    alone = [
        sys.executable,
        "main.py",
        *RUN,
        "--config.train.num_steps=100",
        f"--workdir={tmp_path}/alone",
    ]
    output(*alone, "--config.began.gamma=0.7", "--config.seed=1")
    assert fingerprint(tmp_path / "alone").strip() == found["gamma=0.7,seed=1"]
    for name, value in found.items():
        say(f"{name}: {value}")
