"""The loop in this process: what it records when, and what stops it."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from began_jax import checkpoints, errors, feed, models, restoring, sharding, telemetry, train
from began_jax.config import ConfigError
from began_jax.data import identity
from began_jax.health import Unwell
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


def poison(monkeypatch, when):
    """G is not finite after the first step of a state for which `when` holds."""
    original = sharding.compile_steps

    def compile_steps(*args):
        train_steps = original(*args)

        def steps(state, batches, num_steps):
            bad = when(state)
            state, metrics = train_steps(state, batches, num_steps)
            if bad:
                g = jax.tree.map(lambda leaf: leaf * np.nan, state.generator)
                state = state.replace(generator=g)
            return state, metrics

        return steps

    monkeypatch.setattr(sharding, "compile_steps", compile_steps)


@pytest.fixture
def poisoned_steps(monkeypatch):
    """Every step leaves a G that is not finite, behind losses from before its update."""
    poison(monkeypatch, lambda state: True)


def test_a_state_that_is_not_finite_is_not_saved(tmp_path, poisoned_steps):
    config = array_config(tmp_path / "x.npy", noise(), train__checkpoint_every_steps=1)
    with pytest.raises(Unwell, match="a parameter is not finite after step 1"):
        train.train(config, tmp_path / "run")
    assert steps_saved(tmp_path / "run") == []


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, poisoned_steps):
    config = array_config(tmp_path / "x.npy", noise(), train__log_every_steps=1)
    with pytest.raises(Unwell, match=r"\w+ is nan at step 2"):
        train.train(config, tmp_path / "run")
    first, second = records(tmp_path / "run")
    assert (first["step"], second["step"]) == (1, 2)
    assert second["alarms"] == ["not_finite"]


def restored(workdir):
    config = restoring.load_config(workdir)
    state = sharding.abstract_state(config, sharding.make_mesh(4))
    with checkpoints.Checkpoints(workdir / "checkpoints") as saved:
        return saved.restore(state)


ROLLBACK = {
    "health__policy": "rollback",
    "train__checkpoint_every_steps": 2,
    "train__log_every_steps": 2,
}


@pytest.mark.slow
def test_a_rollback_goes_on_with_half_the_rate_and_other_latents(tmp_path, monkeypatch, capfd):
    config = array_config(tmp_path / "x.npy", noise(), **ROLLBACK)
    train.train(config, tmp_path / "well")
    poison(monkeypatch, lambda state: int(state.step) == 4 and not int(state.rollbacks))
    train.train(config, tmp_path / "run")
    message = "rollback 1: to step 4"
    assert message in capfd.readouterr().err

    (entry,) = json.loads((tmp_path / "run" / "rollbacks.json").read_text())
    assert (entry["step"], entry["alarm_step"]) == (4, 6)
    assert list(entry["alarms"]) == ["not_finite"]
    starts = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert [(one["start_step"], one["rollbacks"]) for one in starts] == [(0, 0), (4, 1)]
    rates = {record["step"]: record["learning_rate"] for record in records(tmp_path / "run")}
    assert rates == {2: pytest.approx(1e-4), 4: pytest.approx(1e-4), 6: pytest.approx(5e-5)}
    state = restored(tmp_path / "run")
    assert (int(state.step), int(state.rollbacks)) == (6, 1)
    # A checkpoint from before the rollback knows nothing of it; the run does.
    for name in ("4", "6"):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / name)
    train.train(config, tmp_path / "run")
    assert int(restored(tmp_path / "run").rollbacks) == 1


def with_spreads(monkeypatch, spread):
    """The samples' spread is that function of the step and of where the run was rolled back to."""
    original = train.Recorder.put

    def put(self, record):
        value = np.float32(spread(record.step, self._since))
        original(self, dataclasses.replace(record, spread=value))

    monkeypatch.setattr(train.Recorder, "put", put)
    monkeypatch.setattr(identity, "spread", lambda images: 1.0)


def test_a_collapse_goes_back_to_where_the_samples_varied(tmp_path, monkeypatch):
    """The checkpoints since then are kept apart."""
    spreads = {2: 0.5, 4: 0.5, 6: 0.3, 8: 0.2, 10: 0.5}
    with_spreads(monkeypatch, lambda step, since: 0.5 if since else spreads[step])
    values = {"health__grace_images": 0, "health__window_steps": 99, "train__num_steps": 10}
    config = array_config(tmp_path / "x.npy", noise(), **{**ROLLBACK, **values})
    train.train(config, tmp_path / "run")
    (entry,) = json.loads((tmp_path / "run" / "rollbacks.json").read_text())
    assert (entry["step"], entry["alarm_step"]) == (4, 8)
    apart = [path.name for path in (tmp_path / "run" / "rolled-back-checkpoints").iterdir()]
    assert [name.split("-")[0] for name in apart] == ["6"]
    assert int(restored(tmp_path / "run").rollbacks) == 1


@pytest.mark.slow
def test_the_checkpoint_from_before_a_collapse_is_kept_for_it(tmp_path, monkeypatch):
    def spread(step, since):
        return 0.5 if step <= 3 or since else 0.3 if step <= 14 else 0.1

    with_spreads(monkeypatch, spread)
    values = {"health__grace_images": 0, "health__window_steps": 99, "train__num_steps": 14}
    often = {**ROLLBACK, "train__log_every_steps": 1, "train__checkpoint_every_steps": 1}
    config = array_config(tmp_path / "x.npy", noise(), **{**often, **values})
    train.train(config, tmp_path / "run")  # 0.3 of 0.5 is not alarming
    assert steps_saved(tmp_path / "run") == [3, 12, 13, 14]
    longer = {**often, **values, "train__num_steps": 16}
    train.train(array_config(tmp_path / "x.npy", noise(), **longer), tmp_path / "run")
    (entry,) = json.loads((tmp_path / "run" / "rollbacks.json").read_text())
    assert (entry["step"], entry["alarm_step"]) == (3, 15)
    rates = {record["step"]: record["learning_rate"] for record in records(tmp_path / "run")}
    assert (rates[3], rates[4]) == (pytest.approx(1e-4), pytest.approx(5e-5))


def test_a_process_that_dies_between_a_rollback_and_its_consequences_loses_nothing(tmp_path):
    """As it is recorded first; the later checkpoints are moved when the run goes on."""
    config = array_config(tmp_path / "x.npy", noise(), **ROLLBACK)
    train.train(config, tmp_path / "run")
    entry = {"step": 2, "alarm_step": 6, "alarms": {"collapse": ""}}
    (tmp_path / "run" / "rollbacks.json").write_text(json.dumps([entry, entry]))
    train.train(config, tmp_path / "run")
    apart = (tmp_path / "run" / "rolled-back-checkpoints").iterdir()
    assert sorted(path.name.split("-")[0] for path in apart) == ["4", "6"]
    state = restored(tmp_path / "run")
    assert (int(state.step), int(state.rollbacks)) == (6, 2)
    rates = {record["step"]: record["learning_rate"] for record in records(tmp_path / "run")}
    assert rates == {2: pytest.approx(1e-4), 4: pytest.approx(2.5e-5), 6: pytest.approx(2.5e-5)}


def test_an_alarm_stops_a_run_whose_policy_it_is(tmp_path, monkeypatch):
    with_spreads(monkeypatch, lambda step, since: 0.5 if step <= 4 else 0.1)
    stop = {**ROLLBACK, "health__policy": "stop", "health__grace_images": 0}
    config = array_config(tmp_path / "x.npy", noise(), train__num_steps=10, **stop)
    with pytest.raises(Unwell, match="step 6: collapse"):
        train.train(config, tmp_path / "run")
    assert steps_saved(tmp_path / "run") == [2, 4]
    assert not (tmp_path / "run" / "rollbacks.json").exists()


def test_a_signal_during_a_rollback_is_not_forgotten(tmp_path, monkeypatch):
    poison(monkeypatch, lambda state: int(state.step) == 4 and not int(state.rollbacks))
    add = train.rollbacks.add

    def add_and_be_asked_to_stop(*arguments):
        add(*arguments)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(train.rollbacks, "add", add_and_be_asked_to_stop)
    config = array_config(tmp_path / "x.npy", noise(), train__num_steps=1000, **ROLLBACK)
    with pytest.raises(Stopped, match="SIGTERM: saved at step 5"):
        train.train(config, tmp_path / "run")
    assert int(restored(tmp_path / "run").rollbacks) == 1


def test_a_run_that_is_stopped_does_not_say_saved_before_it_is(tmp_path, monkeypatch):
    def fail(self):
        raise checkpoints.CheckpointError("the last save failed: No space left on device")

    monkeypatch.setattr(checkpoints.Checkpoints, "wait", fail)
    poison(monkeypatch, lambda state: signal.raise_signal(signal.SIGTERM))
    config = array_config(tmp_path / "x.npy", noise())
    with pytest.raises(checkpoints.CheckpointError, match="the last save failed"):
        train.train(config, tmp_path / "run")


@pytest.mark.slow
def test_rollbacks_end_when_they_do_not_help(tmp_path, monkeypatch):
    poison(monkeypatch, lambda state: int(state.step) == 4)
    config = array_config(tmp_path / "x.npy", noise(), health__max_rollbacks=2, **ROLLBACK)
    with pytest.raises(errors.UserError, match="2 rollbacks did not help") as raised:
        train.train(config, tmp_path / "run")
    assert len(str(raised.value).splitlines()) == 1
    assert len(json.loads((tmp_path / "run" / "rollbacks.json").read_text())) == 2
    assert steps_saved(tmp_path / "run") == [2, 4]
    # As often as one asks; nothing is lost by it.
    with pytest.raises(errors.UserError, match="2 rollbacks did not help"):
        train.train(config, tmp_path / "run")
    assert steps_saved(tmp_path / "run") == [2, 4]


def test_a_rollback_before_the_first_checkpoint_begins_anew(tmp_path, monkeypatch):
    poison(monkeypatch, lambda state: int(state.step) == 0 and not int(state.rollbacks))
    train.train(array_config(tmp_path / "x.npy", noise(), **ROLLBACK), tmp_path / "run")
    (entry,) = json.loads((tmp_path / "run" / "rollbacks.json").read_text())
    assert entry["step"] == 0
    assert int(restored(tmp_path / "run").rollbacks) == 1


@pytest.mark.slow
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
                model__carry_steps=5,  # ends within a dispatch, in which runs are interrupted
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

    # Every step by the program that has the residual.
    monkeypatch.setattr(models, "without_finished_residual", lambda model, step: model)
    fingerprint("with residual", 10)
    (m_global,) = [r["m_global"] for r in records(tmp_path / "with residual") if r["step"] == 10]
    assert m_global == pytest.approx(m_globals[0][-1], rel=1e-5)


def test_a_finished_run_says_so_and_computes_nothing(tmp_path, capfd, monkeypatch):
    config = array_config(tmp_path / "x.npy", noise())
    train.train(config, tmp_path / "run")
    monkeypatch.setattr(sharding, "compile_steps", None)  # nor is anything compiled
    train.train(config, tmp_path / "run")
    assert len(json.loads((tmp_path / "run" / "provenance.json").read_text())) == 1
    assert f"{tmp_path / 'run'}: is finished at step 6\n" in capfd.readouterr().err
    assert [record["step"] for record in records(tmp_path / "run")] == [2, 4, 6]


def test_other_images_are_refused_and_the_same_ones_elsewhere_are_not(tmp_path):
    train.train(array_config(tmp_path / "x.npy", noise()), tmp_path / "run")
    (tmp_path / "x.npy").unlink()
    moved = array_config(tmp_path / "y.npy", noise(), train__num_steps=8)
    train.train(moved, tmp_path / "run")
    for other in (noise(seed=1), noise(num=13)):
        with pytest.raises(ConfigError, match="not those of"):
            train.train(array_config(tmp_path / "y.npy", other), tmp_path / "run")


def test_images_that_change_in_mid_run_are_noticed_at_the_next_start(tmp_path, monkeypatch):
    config = array_config(tmp_path / "x.npy", noise(), train__num_steps=4)
    original = train.Recorder.put

    def changing(self, record):
        np.load(tmp_path / "x.npy", mmap_mode="r+")[:] = noise(seed=1)
        original(self, record)

    monkeypatch.setattr(train.Recorder, "put", changing)
    train.train(config, tmp_path / "run")
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=8))
    with pytest.raises(ConfigError, match="not those of"):
        train.train(longer, tmp_path / "run")


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


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_longer_run_compiles_nothing_more(tmp_path, at_once):
    """After the first steps only the program without the vanishing residual is compiled."""
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
        assert count(30) == short + 1
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


def test_a_clock_that_jumps_between_saves_changes_nothing(tmp_path, monkeypatch):
    """While a save is under way Orbax may take a jump for a timeout: then a line ends the run."""
    config = array_config(tmp_path / "x.npy", noise(), train__checkpoint_every_steps=2)
    train.train(config, tmp_path / "usual")
    jumps = {2: 0.0, 4: 1e6, 6: -1e6}
    real_time, offset, save = time.time, [0.0], checkpoints.Checkpoints.save

    def save_after_a_jump(self, step, *rest):
        self.wait()
        offset[0] = jumps[step]
        save(self, step, *rest)

    monkeypatch.setattr(time, "time", lambda: real_time() + offset[0])
    monkeypatch.setattr(checkpoints.Checkpoints, "save", save_after_a_jump)
    train.train(config, tmp_path / "jumping")
    fingerprints = [checkpoints.fingerprint(restored(tmp_path / n)) for n in ("usual", "jumping")]
    assert fingerprints[0] == fingerprints[1]
    assert steps_saved(tmp_path / "jumping") == [2, 4, 6]
    assert all(record["images_per_second"] > 0 for record in records(tmp_path / "jumping"))


@pytest.mark.parametrize("away", [shutil.rmtree, lambda path: path.rename(f"{path}-elsewhere")])
def test_a_folder_that_vanishes_stops_the_run(tmp_path, monkeypatch, away):
    original = telemetry.Telemetry.write_scalars

    def removed(self, step, *record):
        if step == 4:
            away(tmp_path / "run")
        original(self, step, *record)

    monkeypatch.setattr(telemetry.Telemetry, "write_scalars", removed)
    config = array_config(tmp_path / "x.npy", noise(), train__num_steps=1000)
    with pytest.raises(errors.UserError, match="it was removed or renamed while the run was in it"):
        train.train(config, tmp_path / "run")
