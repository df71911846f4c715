"""Runs of several real processes on this machine, and one of as many devices."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from began_jax import agreement, checkpoints, errors, files, processes, restoring, sharding
from began_jax import config as config_lib
from tests.conftest import ROOT, make_config

RUN = [
    *("--config=configs/demo.py", "--config.model.resolution=16", "--config.model.n=4"),
    *("--config.data.num_images=64", "--config.train.num_samples=4", "--config.data.flip=True"),
    *("--config.train.log_every_steps=2", "--config.train.checkpoint_every_steps=4"),
]


def start(workdir, num_steps, *, num_devices, flags=(), log=None):
    """main.py on so many devices of its own."""
    cache = workdir.parent / "cache"
    environment = {**os.environ, "BEGAN_JAX_CACHE": str(cache)}
    environment["JAX_NUM_CPU_DEVICES"] = str(num_devices)
    command = [sys.executable, "main.py", *RUN, f"--workdir={workdir}", *flags]
    log = log or workdir.with_suffix(".log")
    # Apart, as Gloo's threads write to standard output from C++, into each other's lines.
    with log.open("w") as file, log.with_suffix(".out").open("w") as out:
        return subprocess.Popen(
            [*command, f"--config.train.num_steps={num_steps}"],
            stdout=out,
            stderr=file,
            cwd=ROOT,
            env=environment,
        )


def start_two(workdir, num_steps, *more):
    """Two processes of one run, on two devices each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    together = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2"]
    return [
        start(
            workdir,
            num_steps,
            num_devices=2,
            flags=[*together, f"--process_id={i}", *more],
            log=workdir.with_name(f"{workdir.name}-{i}.log"),
        )
        for i in range(2)
    ]


def wait(*started, seconds=120):
    try:
        return [one.wait(seconds) for one in started]
    finally:
        for one in started:
            one.kill()
            one.wait()


def wait_for(path, text, started):
    while text not in path.read_text():
        assert started.poll() is None, path.read_text()
        time.sleep(0.05)


def state_of(workdir):
    config = restoring.load_config(workdir)
    target = sharding.abstract_state(config, sharding.make_mesh(1, jax.devices()[:1]))
    with checkpoints.Checkpoints(workdir / "checkpoints") as saved:
        return saved.restore(target)


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_make_the_run_of_one(tmp_path):
    assert wait(start(tmp_path / "one", 8, num_devices=1)) == [0]
    assert wait(start(tmp_path / "four", 8, num_devices=4)) == [0]
    for num_steps in (4, 8):  # and go on from what the first of them saved
        assert wait(*start_two(tmp_path / "two", num_steps)) == [0, 0]
    # And by one process, from where two were.
    for num_steps, begin in ((4, start_two), (8, start)):
        options = {"num_devices": 4} if begin is start else {}
        begun = begin(tmp_path / "less", num_steps, **options)
        assert set(wait(*(begun if isinstance(begun, list) else [begun]))) == {0}
    two = state_of(tmp_path / "two")
    for name in ("one", "four", "less"):
        other = state_of(tmp_path / name)
        assert float(two.equilibrium.k) == pytest.approx(float(other.equilibrium.k), rel=1e-5)
        # Where a gradient is all rounding Adam moves a parameter by up to the learning rate, in
        # whatever direction: 1e-3 a step. The others agree to rounding.
        for a, b in zip(
            jax.tree.leaves((two.generator, two.discriminator)),
            jax.tree.leaves((other.generator, other.discriminator)),
            strict=True,
        ):
            apart = np.abs(np.asarray(a) - b)
            assert apart.max() <= 8 * 2e-3
            assert np.mean(apart > 1e-5) < 0.01
    # Only the first wrote, and as one process does.
    assert [line["step"] for line in records(tmp_path / "two")] == [2, 4, 6, 8]
    starts = json.loads((tmp_path / "two" / "provenance.json").read_text())
    assert [(one["processes"], len(one["devices"])) for one in starts] == [(2, 4)] * 2
    told = (tmp_path / "two-1.log").read_text()
    assert "step 8/8" not in told
    assert "step 8/8" in (tmp_path / "two-0.log").read_text()


@pytest.mark.slow
def test_a_signal_to_one_of_two_saves_and_stops_both_and_a_lost_one_ends_the_other(tmp_path):
    run, log = tmp_path / "run", tmp_path / "run-0.log"
    first, second = start_two(run, 10**6)
    wait_for(log, "step 4/", first)
    second.terminate()
    assert wait(first, second) == [128 + signal.SIGTERM] * 2
    for i in range(2):
        assert "SIGTERM: saved at step " in (tmp_path / f"run-{i}.log").read_text()
    saved = int(state_of(run).step)

    first, second = start_two(run, 10**6)
    wait_for(log, f"goes on from step {saved}\n", first)
    wait_for(log, "\nstep ", first)
    second.kill()
    second.wait()
    began = time.monotonic()
    (status,) = wait(first, seconds=60)
    assert time.monotonic() - began < 60
    # By the transport's error or, where that hangs, by JAX, whose text ends in a stack.
    assert status in (processes.Lost.exit_status, -signal.SIGABRT)
    told = log.read_text()
    assert "another one ended; started again" in told or "another task died" in told

    first, second = start_two(run, 10**6)
    wait_for(log, "goes on from step ", first)
    wait_for(log, "\nstep ", first)
    first.terminate()
    assert wait(first, second) == [128 + signal.SIGTERM] * 2
    assert int(state_of(run).step) > saved


def test_a_coordinator_that_never_answers_is_a_line(tmp_path):
    code = (
        "from began_jax import processes\n"
        "processes._PATIENCE_SECONDS = 1\n"
        "processes.start('127.0.0.1:1', 2, 1, detect=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == processes.Lost.exit_status == 75
    told = "--coordinator=127.0.0.1:1: not all processes of the run came within 1 s\n"
    assert done.stderr == told


def test_waiting_for_others_is_told_and_ctrl_c_ends_it():
    code = (
        "from began_jax import processes\n"
        "processes._SILENT_SECONDS = 0.1\n"
        "processes.start('127.0.0.1:1', 2, 1, detect=False)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as started:
        told = started.stderr.readline()
        assert told == "--coordinator=127.0.0.1:1: waits for the run's other processes\n"
        time.sleep(0.5)  # within JAX's C++, most likely
        started.send_signal(signal.SIGINT)
        assert started.wait(20) == -signal.SIGINT


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("host:1", 2, None), "--process_id: needed beside"),
        ((None, None, 0), "--coordinator, --num_processes: needed beside"),
        (("host", 2, 0), "--coordinator=host: host:port is needed"),
        (("host:1", 2, 2), "--process_id=2: 0 to --num_processes - 1"),
    ],
)
def test_values_that_do_not_belong_together_are_refused(values, message):
    with pytest.raises(errors.UserError, match=message):
        processes.start(*values, detect=False)


def test_one_process_is_told_what_it_says_itself():
    processes.start(None, None, None, detect=False)
    assert not processes.are_several()
    assert processes.is_first()
    value = {"any": object()}
    assert processes.from_first(lambda: value) is value
    assert processes.arrays_from_first(value) is value
    assert processes.smallest(3) == 3


def test_what_was_not_about_lost_ones_is_raised_as_it_is():
    with pytest.raises(ValueError, match="Gloo"), processes.telling_of_lost_ones():
        raise ValueError("Gloo all-reduce failed")  # of a run of one process, so something else


@pytest.mark.slow
def test_two_processes_that_cannot_train_say_so_in_a_line_each_and_overwrite_nothing(tmp_path):
    def refused(run, *flags):
        statuses = wait(*start_two(run, 4, *flags))
        return statuses, [(tmp_path / f"{run.name}-{i}.log").read_text() for i in range(2)]

    def contents(folder):
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert wait(start(tmp_path / "run", 4, num_devices=4)) == [0]
    before = contents(tmp_path / "run")
    with files.exclusive(tmp_path / "run"):
        statuses, told = refused(tmp_path / "run")
    assert statuses == [2, 2]
    assert told == [f"{tmp_path / 'run'}: another process is working in it\n"] * 2
    assert contents(tmp_path / "run") == before

    statuses, told = refused(tmp_path / "odd", "--config.train.batch_size=6")
    assert statuses == [2, 2]
    line = "config.train.batch_size = 6: a multiple of the 4 devices is needed\n"
    assert told == [line] * 2


def in_two(tmp_path, code):
    """What each of two connected processes tells by `print` in a script; `i` is its number."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = (
        "import sys\n"
        "import numpy as np\n"
        "from began_jax import errors, processes\n"
        "i = int(sys.argv[1])\n"
        "sys.stdout = open(sys.argv[2], 'w')\n"  # as Gloo's own lines go to the real one
        f"processes.start('127.0.0.1:{port}', 2, i, detect=False)\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script + code, str(i), str(tmp_path / f"{i}.txt")],
            cwd=ROOT,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
        )
        for i in range(2)
    ]
    statuses = wait(*started)
    return statuses, [(tmp_path / f"{i}.txt").read_text().splitlines() for i in range(2)]


def test_what_is_said_between_two_processes(tmp_path):
    statuses, told = in_two(
        tmp_path,
        """
print(processes.smallest([60 * 2**30, 80 * 2**30][i]))
print(processes.from_first(lambda: {"i": i}))
tree = {"a": np.arange(3.0) + i, "b": np.full((2, 2), -0.0, np.float32)}
print(processes.arrays_from_first(tree)["a"].tolist())
print(processes.in_all(lambda: i))

def disk():
    raise OSError(28, "No space left on device")

def own():
    if i == 1:
        raise errors.UserError("mine")

for ask in (lambda: processes.from_first(disk), lambda: processes.in_all(own)):
    try:
        ask()
    except (errors.UserError, OSError) as error:
        print(error)
print("done")
""",
    )
    assert statuses == [0, 0]
    both = [str(60 * 2**30), "{'i': 0}", "[0.0, 1.0, 2.0]"]
    disk = "[Errno 28] No space left on device"
    assert told == [
        [*both, "0", disk, "process 1: mine", "done"],
        [*both, "1", disk, "mine", "done"],
    ]


@pytest.mark.slow
def test_k_is_the_same_on_both_of_two_hosts(tmp_path):
    statuses, told = in_two(
        tmp_path,
        """
import jax
from began_jax import feed, sharding
from tests.conftest import make_config
config = make_config(began__lambda_k=0.01, began__k_init=0.5, train__batch_size=4)
mesh = sharding.make_mesh(4)
images = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3), np.uint8)
state = sharding.init_state(config, mesh)
step = sharding.compile_steps(config, mesh, 1, None)
for done in range(3):
    state, metrics = step(state, feed.batches(config, images, None, mesh, done, 1), 1)
local = sharding.local(state)
print(float(local.equilibrium.k).hex(), int(local.step))
from began_jax import checkpoints
print(checkpoints.fingerprint(local))
""",
    )
    assert statuses == [0, 0]
    assert told[0] == told[1]
    assert told[0][0].endswith(" 3")
    assert float.fromhex(told[0][0].split()[0]) > 0


def test_a_port_that_another_run_listens_on_is_refused():
    """JAX would share it, and end the other run."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as JAX does
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(errors.UserError, match=f":{port}: its port cannot be used"):
            processes.start(f"127.0.0.1:{port}", 2, 0, detect=False)


def test_the_three_values_stand_above_what_a_cluster_says(monkeypatch):
    asked = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **more: asked.update(more))
    processes.start("host:12", 2, 1, detect=False)
    assert asked["cluster_detection_method"] == "deactivate"
    assert asked["shutdown_timeout_seconds"] >= 3600  # the first may save or evaluate for long
    processes.start(None, None, None, detect=True)
    assert asked["cluster_detection_method"] is None


def test_processes_with_other_settings_are_refused(monkeypatch):
    own = make_config(began__gamma=0.5, data__path="here")
    other = config_lib.flatten(make_config(began__gamma=0.3, data__path="there"))
    monkeypatch.setattr(processes, "from_first", lambda _: other)
    with pytest.raises(
        errors.UserError, match=r"settings than the first: began\.gamma = 0\.5, there 0\.3$"
    ):
        agreement.check_settings(own)
    monkeypatch.setattr(processes, "from_first", lambda make: make())
    agreement.check_settings(own)
