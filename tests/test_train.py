"""The loop in this process: what it records when, and what stops it."""

import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from began_jax import checkpoints, errors, feed, sharding, telemetry, train
from began_jax.config import ConfigError
from began_jax.data import identity
from began_jax.recorder import Diverged
from began_jax.signals import Stopped
from tests.conftest import ROOT, make_config


def array_config(path, images, **overrides):
    np.save(path, images)
    return make_config(data__source="array", data__path=str(path), **overrides)


def noise(num=12, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, 16, 16, 3), np.uint8)


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def steps_saved(workdir):
    with checkpoints.Checkpoints(workdir / "checkpoints") as saved:
        return saved.steps()


def test_grids_come_by_images_seen_also_across_a_resume(tmp_path):
    # Batches of 4 cross multiples of 10 at steps 3 (12 images), 5 (20), 8 (32), 10 (40).
    values = {"train__sample_every_images": 10, "train__log_every_steps": 4}
    for num_steps in (6, 11):
        config = array_config(tmp_path / "x.npy", noise(), train__num_steps=num_steps, **values)
        train.train(config, tmp_path / "run")
    names = sorted(path.stem for path in (tmp_path / "run" / "samples").iterdir())
    # Besides, each end of a run: steps 6 and 11.
    assert [int(name) for name in names] == [12, 20, 24, 32, 40, 44]
    assert [record["step"] for record in records(tmp_path / "run")] == [3, 4, 5, 6, 8, 10, 11]
    assert steps_saved(tmp_path / "run") == [6, 11]


def test_a_signal_at_any_moment_of_a_step_is_answered_by_a_saved_state(tmp_path, monkeypatch):
    original = train.Recorder.put

    def interrupted(self, record):
        if record.step == 4:  # after the loop has looked for signals
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, record)

    monkeypatch.setattr(train.Recorder, "put", interrupted)
    config = array_config(tmp_path / "x.npy", noise(), train__num_steps=50)
    with pytest.raises(Stopped, match="saved at step 5"):
        train.train(config, tmp_path / "run")
    assert steps_saved(tmp_path / "run") == [5]


@pytest.fixture
def poisoned_steps(monkeypatch):
    """Every step leaves a G that is not finite, behind losses from before its update."""
    original = sharding.compile_steps

    def compile_steps(*args):
        train_steps = original(*args)

        def steps(state, batches, num_steps):
            state, metrics = train_steps(state, batches, num_steps)
            bad = jax.tree.map(lambda leaf: leaf * np.nan, state.generator)
            return state.replace(generator=bad), metrics

        return steps

    monkeypatch.setattr(sharding, "compile_steps", compile_steps)


def test_a_state_that_is_not_finite_is_not_saved(tmp_path, poisoned_steps):
    config = array_config(tmp_path / "x.npy", noise(), train__checkpoint_every_steps=1)
    with pytest.raises(Diverged, match="a parameter is not finite after step 1"):
        train.train(config, tmp_path / "run")
    assert steps_saved(tmp_path / "run") == []


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, poisoned_steps):
    config = array_config(tmp_path / "x.npy", noise(), train__log_every_steps=1)
    with pytest.raises(Diverged, match=r"\w+ is nan at step 2"):
        train.train(config, tmp_path / "run")
    assert [record["step"] for record in records(tmp_path / "run")] == [1]


def test_where_a_dispatch_begins_and_where_the_images_lie_changes_no_bit(tmp_path, monkeypatch):
    def fingerprint(name, *lengths):
        for num_steps in lengths:
            config = array_config(
                tmp_path / "x.npy",
                noise(),
                train__num_steps=num_steps,
                train__steps_per_dispatch=3,
                train__log_every_steps=3,
                train__checkpoint_every_steps=3,
                data__flip=True,
            )
            train.train(config, tmp_path / name)
        state = sharding.abstract_state(config, sharding.make_mesh(4))
        with checkpoints.Checkpoints(tmp_path / name / "checkpoints") as saved:
            return checkpoints.fingerprint(saved.restore(state))

    whole = fingerprint("whole", 10)
    assert fingerprint("interrupted", 4, 5, 10) == whole  # 3, 1 | 1 | 1, 3, 1
    assert [r["step"] for r in records(tmp_path / "interrupted")] == [3, 4, 5, 6, 9, 10]
    monkeypatch.setattr(feed, "_memory", lambda device: 2**40)
    assert fingerprint("resident", 5, 10) == whole
    m_globals = [
        [r["m_global"] for r in records(tmp_path / name) if r["step"] in (3, 9, 10)]
        for name in ("whole", "interrupted", "resident")
    ]
    assert m_globals[0] == m_globals[1] == m_globals[2]


def test_other_images_are_refused_and_the_same_ones_elsewhere_are_not(tmp_path):
    train.train(array_config(tmp_path / "x.npy", noise()), tmp_path / "run")
    (tmp_path / "x.npy").unlink()
    moved = array_config(tmp_path / "y.npy", noise(), train__num_steps=8)
    train.train(moved, tmp_path / "run")
    for other in (noise(seed=1), noise(num=13)):
        with pytest.raises(ConfigError, match="not those of"):
            train.train(array_config(tmp_path / "y.npy", other), tmp_path / "run")


def test_images_that_do_not_differ_are_refused():
    with pytest.raises(ConfigError, match="3 images, all the same"):
        identity.spread(np.repeat(noise(1), 3, axis=0))


def test_the_datas_spread_is_that_of_its_floats():
    images = noise(50)
    floats = images / 255.0
    assert identity.spread(images) == pytest.approx(np.sqrt(floats.var(axis=0).mean()), rel=1e-5)


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    code = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "input()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run" / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "locked\n"
    config = array_config(tmp_path / "x.npy", noise())
    with pytest.raises(errors.UserError, match="another process is working in it"):
        train.train(config, tmp_path / "run")
    other.communicate("\n")
    train.train(config, tmp_path / "run")


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_longer_run_compiles_nothing_more(tmp_path, at_once):
    """Once all functions have run, no step compiles: not at the plateau's or the carry's turns."""
    compiled = []

    def listen(event, duration, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    def count(num_steps):
        compiled.clear()
        config = array_config(
            tmp_path / "x.npy",
            noise(),
            train__num_steps=num_steps,
            train__sample_every_images=8,
            train__steps_per_dispatch=at_once,
            optim__decay_window_steps=4,
            model__carry_steps=10,
        )
        train.train(config, tmp_path / f"run{num_steps}")
        return len(compiled)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        count(6)  # and whatever is compiled once a process
        short = count(7)
        assert short > 0
        assert count(30) == short
    finally:
        jax.monitoring.clear_event_listeners()


def test_bad_data_is_told_before_a_device_is_touched(tmp_path):
    code = (
        "import jax, pathlib, sys\n"
        "from began_jax import errors, train\n"
        "from tests.conftest import make_config\n"
        "jax.config.update('jax_platforms', 'nonsense')\n"
        "config = make_config(data__source='array', data__path='nowhere.npy')\n"
        "try:\n"
        "    train.train(config, pathlib.Path(sys.argv[1]))\n"
        "except errors.UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "config.data.path = 'nowhere.npy'" in done.stdout


def test_a_folder_that_vanishes_stops_the_run(tmp_path, monkeypatch):
    original = telemetry.Telemetry.write_scalars

    def removed(self, step, scalars):
        if step == 4:
            shutil.rmtree(tmp_path / "run")
        original(self, step, scalars)

    monkeypatch.setattr(telemetry.Telemetry, "write_scalars", removed)
    config = array_config(tmp_path / "x.npy", noise(), train__num_steps=1000)
    with pytest.raises(errors.UserError, match="it was removed while the run was in it"):
        train.train(config, tmp_path / "run")
