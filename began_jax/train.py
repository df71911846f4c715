"""The training loop: restore → step → record → save."""

import collections
import contextlib
import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.sharding import Mesh

from began_jax import (
    agreement,
    backends,
    checkpoints,
    data,
    errors,
    feed,
    files,
    generate,
    processes,
    progress,
    provenance,
    restoring,
    rollbacks,
    run_folder,
    runtime,
    sharding,
    signals,
    telemetry,
)
from began_jax.data import identity, order
from began_jax.health import Unwell
from began_jax.recorder import Record, Recorder
from began_jax.schema import Config
from began_jax.train_state import TrainState
from began_jax.train_step import Metrics

# Enough that the device never waits for the host, little enough that a signal is acted on soon.
_MAX_DISPATCHES_IN_FLIGHT = 2


def train(config: Config, workdir: Path) -> None:
    """Trains to `train.num_steps`, going on from the newest checkpoint in `workdir`, if any.

    Raises:
      ConfigError: impossible settings or data, before anything is computed.
      UserError: `workdir` cannot be used, or another process uses it.
      Unwell: an alarm that `health.policy` acts on; the checkpoints are from before.
      Stopped: SIGTERM or SIGINT came; the state is saved.
    """
    processes.connect()
    processes.in_all(lambda: agreement.check_settings(config))
    processes.from_first(lambda: run_folder.check(workdir, config))
    images = processes.in_all(
        lambda: data.load(
            config.data, resolution=config.model.resolution, channels=config.model.channels
        )
    )
    processes.in_all(lambda: agreement.check_images(images))
    data_spread = identity.spread(images)
    asked, config = config, backends.resolve(config)
    runtime.keep_freed_memory(config.model)
    comparison = processes.in_all(lambda: _comparison(config, images))
    with contextlib.ExitStack() as opened:
        processes.from_first(lambda: _take_folder(workdir, asked, opened))
        t = config.train
        mesh = sharding.make_mesh(t.batch_size, microbatches=t.microbatches)
        dataset = feed.resident(images, mesh)
        config = backends.resolve_dispatch(config, resident=dataset is not None)
        saved = processes.in_all(lambda: _checkpoints(workdir, asked, images, opened))
        stop = opened.enter_context(signals.collect())
        run = _Run(config, workdir, mesh, images, dataset, data_spread, comparison, saved, stop)
        while True:
            try:
                return _go_on(run)
            except Unwell as unwell:
                _roll_back_or_raise(run, unwell)


def _comparison(config: Config, images: np.ndarray) -> Any:
    """What `eval.every_steps` asks for, in the first process."""
    if not config.eval.every_steps or not processes.is_first():
        return None
    from began_jax import evaluate  # here, as it takes a while to import

    return evaluate.in_training(config, images)


def _checkpoints(
    workdir: Path, config: Config, images: np.ndarray, opened: contextlib.ExitStack
) -> checkpoints.Checkpoints | None:
    """Return the run's checkpoints in the first process, which records the config and the data."""
    if not processes.is_first():
        return None
    run_folder.record(workdir, config, images)
    saved = checkpoints.Checkpoints(
        workdir / "checkpoints",
        to_keep=config.train.checkpoints_to_keep,
        keep_every_steps=config.train.keep_checkpoint_every_steps,
    )
    return opened.enter_context(saved)


class _Run(NamedTuple):
    """What stays the same whatever checkpoint a run goes on from."""

    config: Config
    workdir: Path  # which the first process alone touches
    mesh: Mesh
    images: np.ndarray
    dataset: Array | None
    data_spread: float
    comparison: Any  # `evaluate.Comparison`, or None where this process does not evaluate
    saved: checkpoints.Checkpoints | None  # of the first process
    stop: signals.Stop


def _go_on(run: _Run) -> None:
    """Trains from the newest checkpoint, or from the start."""
    past = processes.from_first(lambda: rollbacks.load(run.workdir))
    state = _newest_state(run, past)
    start_step = int(state.step)
    is_done = start_step >= run.config.train.num_steps
    if start_step and processes.is_first():
        told = f"is finished at step {start_step}" if is_done else f"goes on from step {start_step}"
        print(f"{run.workdir}: {told}", file=sys.stderr)
    if not is_done:
        with processes.in_all(lambda: _records(run, start_step, len(past))) as records:
            _loop(run, state, records, past[-1]["step"] if past else 0)


def _records(
    run: _Run, start_step: int, num_rollbacks: int
) -> telemetry.Telemetry | telemetry.Silence:
    """What is recorded from this start on, by the first process."""
    if not processes.is_first():
        return telemetry.Silence()
    provenance.write(run.workdir, run.config, start_step, num_rollbacks)
    return telemetry.Telemetry(run.workdir, run.config, start_step)


def _newest_state(run: _Run, past: Sequence[dict[str, Any]]) -> TrainState:
    """The state to go on from; it has seen all of the past rollbacks."""
    one_device = sharding.make_mesh(1, jax.local_devices()[:1])
    target = sharding.abstract_state(run.config, one_device)
    arrays = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), target)

    def load() -> tuple[bool, int]:
        """Whether there was a checkpoint, and how many rollbacks came since it was saved."""
        nonlocal arrays
        assert run.saved is not None  # in the first process
        while run.saved.steps():
            arrays = jax.device_get(run.saved.restore(target))
            if not rollbacks.undone(past, int(arrays.step), int(arrays.rollbacks)):
                return True, len(past) - int(arrays.rollbacks)
            run.saved.put_away(int(arrays.step), "rolled-back-checkpoints")
        return False, len(past)

    found, num_missed = processes.from_first(load)
    if found:
        arrays = processes.arrays_from_first(arrays)
        state = sharding.put(arrays, sharding.state_shardings(run.config, run.mesh))
    else:
        state = sharding.init_state(run.config, run.mesh)
    for _ in range(num_missed):
        state = sharding.roll_back(run.config, run.mesh, state)
    return state


def _roll_back_or_raise(run: _Run, unwell: Unwell) -> None:
    """Records that the last good checkpoint is to go on otherwise, or raises what has no cure.

    Raises:
      Unwell: the policy is another one.
      UserError: there were `max_rollbacks` of them.
    """
    if run.config.health.policy != "rollback":
        _wait_for_saves(run)
        raise unwell
    processes.from_first(lambda: _record_rollback(run, unwell))


def _record_rollback(run: _Run, unwell: Unwell) -> None:
    assert run.saved is not None  # in the first process
    run.saved.wait()  # a newer one may be on its way
    rollbacks.add(run.workdir, run.saved.steps(), run.config.health.max_rollbacks, unwell)


def _take_folder(workdir: Path, config: Config, opened: contextlib.ExitStack) -> None:
    """Makes the run's folder, if need be, and keeps it to this process while `opened` is."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.UserError(f"--workdir={workdir}: no folder can be there: {error}") from error
    # Where a host failed, a network disk may keep the lock of its process for a while.
    patience = 15.0 if processes.are_several() else 0.0
    opened.enter_context(files.exclusive(workdir, patience_seconds=patience))
    run_folder.check(workdir, config)  # again: another run may have come between


def _loop(
    run: _Run,
    state: TrainState,
    records: telemetry.Telemetry | telemetry.Silence,
    since: int,
) -> None:
    config, mesh, images, dataset = run.config, run.mesh, run.images, run.dataset
    t, at_once = config.train, config.train.steps_per_dispatch
    steps_from = sharding.compile_steps_from(config, mesh, at_once, dataset)
    steps_from(int(state.step) - int(state.step) % at_once)  # compiles, before anything is recorded
    real = images[order.subset(len(images), t.num_samples)]
    real_on_devices = sharding.put(real, sharding.replicated(mesh))
    for_grids = backends.for_one_pass(config)
    fixed_samples = sharding.compile_for(
        mesh, functools.partial(generate.fixed_samples, for_grids), state
    )
    reconstructions = sharding.compile_for(
        mesh, functools.partial(generate.reconstructions, for_grids), state, real_on_devices
    )
    copied = sharding.compile_for(mesh, functools.partial(jax.tree.map, jnp.copy), state)
    past = processes.from_first(lambda: restoring.records(run.workdir))
    save = run.saved.save if run.saved is not None else lambda *_: None
    in_flight: collections.deque[Metrics] = collections.deque()
    unrecorded: list[tuple[Metrics, int]] = []
    recorded = done = int(state.step)
    last_time = time.monotonic()
    with Recorder(records, config, real, run.data_spread, past, since, save) as recorder:
        while done < t.num_steps:
            num = min(at_once - done % at_once, t.num_steps - done)  # to the common rhythm
            batches = feed.batches(config, images, dataset, mesh, done, at_once)
            state, metrics = steps_from(done - done % at_once)(state, batches, num)
            done += num
            unrecorded.append((metrics, num))
            in_flight.append(metrics)
            if len(in_flight) > _MAX_DISPATCHES_IN_FLIGHT:
                jax.block_until_ready(in_flight.popleft())
            records.advance(num)

            stop = run.stop()  # a later signal waits for the next step
            ending = done == t.num_steps or stop is not None
            with_grids = done == t.num_steps or _crosses_multiple(
                done * t.batch_size, num * t.batch_size, t.sample_every_images
            )
            with_save = done % t.checkpoint_every_steps == 0 or ending
            to_save = sharding.local(copied(state)) if with_save else None
            if done % t.log_every_steps == 0 or with_grids or ending:
                samples, spread, outside = fixed_samples(state)
                d_real = reconstructions(state, real_on_devices) if with_grids else None
                kept = samples if with_grids else None
                now = time.monotonic()  # the device is at most a few dispatches behind the host
                rate = t.batch_size * (done - recorded) / (now - last_time)
                recorder.put(Record(done, rate, unrecorded, spread, outside, kept, d_real, to_save))
                unrecorded, recorded, last_time = [], done, now
            elif to_save is not None:
                recorder.save(done, to_save)
            every = config.eval.every_steps
            if every and stop is None and done % every == 0:
                recorder.flush()  # the report tells M_global
                before = time.monotonic()
                looked_at = sharding.local(copied(state))  # of all processes' parts
                if run.comparison is not None:
                    _evaluate(run, jax.device_get(looked_at))
                last_time += time.monotonic() - before
            if stop is not None:
                recorder.flush()
                _wait_for_saves(run)
                raise signals.Stopped(stop, done)
        recorder.flush()


def _wait_for_saves(run: _Run) -> None:
    """Of several processes all wait: one that left would end those that still save."""
    processes.from_first(lambda: run.saved.wait() if run.saved is not None else None)


def _evaluate(run: _Run, state: TrainState) -> None:
    """Writes a report on a state's samples and says it in a line."""
    from began_jax import evaluate, reports  # here, as they take a while to import

    report = evaluate.report(run.comparison, state, restoring.records(run.workdir))
    reports.write(run.workdir, report)
    progress.say(f"step {int(state.step)}: {reports.summary(report)}")


def _crosses_multiple(value: int, increment: int, of: int) -> bool:
    """Whether a multiple of `of` lies in (value − increment, value]."""
    return value // of > (value - increment) // of
