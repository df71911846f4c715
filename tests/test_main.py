"""The real program in real processes: started, killed, stopped, resumed, misused."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

RUN = [
    "--config=configs/demo.py",
    "--config.model.resolution=16",
    "--config.model.n=8",
    "--config.model.carry_steps=150",
    "--config.began.shared_z=False",
    "--config.data.num_images=70",
    "--config.data.flip=True",
    "--config.optim.decay_window_steps=60",
    "--config.train.batch_size=8",
    "--config.train.num_steps=300",
    "--config.train.num_samples=4",
    "--config.train.log_every_steps=10",
    "--config.train.checkpoint_every_steps=25",
]
# For a run that is to be interrupted: it cannot finish before. A resumed run may be shorter.
ENDLESS = "--config.train.num_steps=100000000"
# One device, as users have, whatever the test process itself simulates.
ENVIRONMENT = {
    **os.environ,
    "JAX_NUM_CPU_DEVICES": "1",
}


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory):
    """One for all, so that the faces are drawn once."""
    ENVIRONMENT["BEGAN_JAX_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "main.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**ENVIRONMENT, **environment},
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def main(*arguments, **environment):
    return finish(start(*arguments, **environment))


def fingerprint(workdir):
    status, out, err = main(f"--workdir={workdir}", "--mode=fingerprint")
    assert status == 0, err
    return out


def read_until(process, pattern):
    seen = []
    for line in process.stderr:
        seen.append(line)
        if re.search(pattern, line):
            return
    raise AssertionError(f"{pattern} never came: {seen}")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A whole run's folder and fingerprint."""
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    status, _, err = main(*RUN, f"--workdir={workdir}")
    assert status == 0, err
    return workdir, fingerprint(workdir)


def test_a_run_leaves_its_records(uninterrupted):
    workdir, printed = uninterrupted
    assert re.fullmatch(r"step 300 sha256 [0-9a-f]{64}\n", printed)
    names = {path.name for path in workdir.iterdir()}
    assert names == {
        *("config.json", "data.json", "provenance.json", "metrics.jsonl", ".lock"),
        *("tensorboard", "checkpoints", "samples", "report.html"),
    }
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(10, 301, 10))
    assert set(lines[0]) == {
        *("step", "num_steps", "images", "loss_real", "loss_fake", "k", "balance", "m_global"),
        *("k_min", "k_max"),
        *("learning_rate", "images_per_second", "sample_spread", "sample_outside"),
    }
    assert [path.name for path in (workdir / "samples").iterdir()] == ["000002400.png"]
    page = (workdir / "report.html").read_text()
    assert "Step 300 of 300, 2,400 images." in page
    assert page.count("data:image/webp") == 1


@pytest.mark.slow
def test_killed_in_mid_run_and_resumed_is_uninterrupted(uninterrupted, tmp_path):
    _, expected = uninterrupted
    run = [*RUN, f"--workdir={tmp_path / 'run'}"]
    for last_step_seen in (110, 200):
        process = start(*run, ENDLESS)
        read_until(process, f"step {last_step_seen}/")
        process.kill()
        assert finish(process)[0] == -signal.SIGKILL
    status, _, err = main(*run)
    assert status == 0, err
    assert fingerprint(tmp_path / "run") == expected
    starts = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert 0 == starts[0]["start_step"] < starts[1]["start_step"] < starts[2]["start_step"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal_saves_first_and_resumes_exactly(uninterrupted, tmp_path, number):
    whole, expected = uninterrupted
    run = [*RUN, f"--workdir={tmp_path / 'run'}", "--config.train.checkpoint_every_steps=100000"]
    process = start(*run, ENDLESS)
    read_until(process, "step 110/")
    process.send_signal(number)
    status, _, err = finish(process)
    assert status == 128 + number
    saved = int(re.search(rf"{number.name}: saved at step (\d+); the same command resumes", err)[1])
    assert saved >= 110
    assert fingerprint(tmp_path / "run").startswith(f"step {saved} ")
    status, _, err = main(*run)
    assert status == 0, err
    assert fingerprint(tmp_path / "run") == expected

    def measured(workdir):
        lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        return {line["step"]: {**line, "images_per_second": None} for line in lines}

    both = measured(whole).keys() & measured(tmp_path / "run").keys()
    later = [step for step in both if step > saved + 10]
    assert later
    assert {s: measured(whole)[s] for s in later} == {
        s: measured(tmp_path / "run")[s] for s in later
    }


def test_a_mode_that_is_interrupted_says_so_and_leaves_nothing(uninterrupted, tmp_path):
    whole, _ = uninterrupted
    out = tmp_path / "many.npy"
    process = start(f"--workdir={whole}", "--mode=sample", "--num=1000000", f"--out={out}")
    while process.poll() is None and not any(tmp_path.glob(".many*")):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    status, _, err = finish(process)
    assert (status, err) == (130, "interrupted\n")
    assert not any(tmp_path.glob("*many*"))


@pytest.mark.slow
def test_a_killed_run_is_resumed_by_the_launcher(uninterrupted, tmp_path):
    run = tmp_path / "run"
    command = [str(ROOT / "launch" / "local.sh"), *RUN, f"--workdir={run}"]
    launcher = subprocess.Popen(
        [*command, ENDLESS], stderr=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT
    )
    read_until(launcher, "step 110/")
    (child,) = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    read_until(launcher, "ended with status 137, attempt 1 of 6")
    read_until(launcher, "step 200/")
    launcher.terminate()  # the launcher passes it on and waits for the save
    _, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 128 + signal.SIGTERM
    assert "SIGTERM: saved at step" in err
    refused = subprocess.run([*command, "--config.model.n=0"], cwd=ROOT, env=ENVIRONMENT)
    assert refused.returncode == 2


def test_on_a_terminal_there_is_a_bar(tmp_path):
    leader, follower = os.openpty()
    termios.tcsetwinsize(follower, (24, 200))
    process = subprocess.Popen(
        [sys.executable, "main.py", *RUN, f"--workdir={tmp_path / 'run'}"],
        stderr=follower,
        cwd=ROOT,
        env=ENVIRONMENT,
    )
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # how the end of a terminal reads
        while chunk := os.read(leader, 1 << 16):
            shown += chunk
    os.close(leader)
    assert process.wait(timeout=120) == 0
    last = shown.decode().strip().split("\r")[-1]
    assert re.search(r"100%.* 300/300 .*img/s \d+ L\(x\) 0\.\d+ .*spread", last), last


def test_the_fingerprint_needs_no_particular_number_of_devices(uninterrupted):
    workdir, expected = uninterrupted
    status, out, err = main(f"--workdir={workdir}", "--mode=fingerprint", JAX_NUM_CPU_DEVICES="4")
    assert status == 0, err
    assert out == expected


def test_a_finished_run_has_nothing_left_to_do(uninterrupted):
    workdir, expected = uninterrupted
    status, _, err = main(*RUN, f"--workdir={workdir}")
    assert status == 0, err
    assert fingerprint(workdir) == expected


def test_a_folder_is_not_given_to_another_config(uninterrupted):
    workdir, expected = uninterrupted
    status, _, err = main(*RUN, f"--workdir={workdir}", "--config.began.gamma=0.3")
    assert status == 2
    assert err.splitlines() == [
        f"{workdir}: it holds a run of another config",
        "config.began.gamma: 0.7 there, 0.3 here",
    ]
    assert fingerprint(workdir) == expected


@pytest.mark.slow
def test_a_dry_run_of_the_papers_largest_model(tmp_path):
    workdir = tmp_path / "run"
    status, out, err = main("--config=configs/celeba128.py", "--dry_run", f"--workdir={workdir}")
    assert status == 0, err
    assert "parameters: 17,268,038 (generator " in out
    assert '"resolution": 128' in out
    assert re.search(r"^work: [\d.]+ GFLOP an image$", out, re.MULTILINE)
    assert re.search(
        r"^one step's temporary memory: [\d,]+ MB a device, as compiled for it$", out, re.MULTILINE
    )
    assert not workdir.exists()


@pytest.mark.parametrize("arguments", [["-c", "import began_jax"], ["main.py", "--helpfull"]])
def test_help_and_the_package_do_not_wait_for_jax(arguments):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, cwd=ROOT
    )
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert "began_jax" in imported
    assert not imported & {"jax", "flax", "optax", "orbax", "tensorflow_datasets"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--config=configs/demo.py", "--config.model.nn=3"], "did you mean config.model.n?"),
        (["--config=configs/demo.py", "--config.model.n=many"], "'many'"),
        (["--config=configs/demo.py", "--config.model.n=0"], "config.model.n = 0: 1 or more"),
        (["--config=configs/none.py"], "--config=configs/none.py: no such file"),
        (["--config=configs/folder.py"], "config.data.path = '': a path is needed"),
        ([], "--config=configs/<name>.py is needed"),
        (["--confg=configs/demo.py"], "Unknown command line flag 'confg'"),
        (["configs/demo.py"], "configs/demo.py: flags alone are expected"),
        (["--mode=fingerprint"], "--workdir=<run folder> is needed"),
        (["--mode=fingerprint", "--workdir=nowhere"], "nowhere/config.json: not there"),
        (["--mode=fingerprint", "--workdir=nowhere", "--dry_run"], "takes --workdir, --step"),
        (["--mode=sample", "--workdir=nowhere", "--images=x.png"], "--images: --mode=sample takes"),
        (
            ["--mode=sample", "--workdir=nowhere", "--num=0"],
            "flag --num=0: 0 is not a positive integer",
        ),
        (["--mode=sample"], "--workdir=<run folder> is needed"),
        (["--config=configs/demo.py", "--step=3"], "--step: --mode=train takes --workdir, "),
        (["--config=README.md"], "README.md, line"),
        (["--mode=nothing"], "value should be one of <train|fingerprint|sample|"),
    ],
)
def test_a_mistake_ends_in_one_line(arguments, line, tmp_path):
    if any(argument.startswith("--config=") for argument in arguments):
        arguments = [*arguments, f"--workdir={tmp_path / 'run'}"]
    status, _, err = main(*arguments)
    assert status == 2
    assert len(err.splitlines()) == 1, err
    assert line in err
    assert not (tmp_path / "run").exists()
