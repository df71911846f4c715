"""The training loop: restore → step → record → save."""

import collections
import functools
import json
import time
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from began_jax import checkpoints, data, files, generate, sharding, signals, telemetry
from began_jax import config as config_lib
from began_jax.config import Config, ConfigError
from began_jax.data import order
from began_jax.recorder import Record, Recorder
from began_jax.train_state import TrainState
from began_jax.train_step import Metrics

# Enough that the device never waits for the host, little enough that a signal is acted on at once.
_MAX_STEPS_IN_FLIGHT = 2
_NUM_IMAGES_FOR_SPREAD = 4096


def train(config: Config, workdir: Path) -> None:
    """Trains to `train.num_steps`, going on from the newest checkpoint in `workdir`, if any.

    Raises:
      ConfigError: impossible settings or data, before anything is computed.
      Diverged: a loss is not finite; the newest checkpoint holds a state from before.
      Stopped: SIGTERM or SIGINT came; the state is saved.
    """
    mesh = sharding.make_mesh(config.train.batch_size)
    _check_same_run(workdir, config)
    images = data.load(
        config.data, resolution=config.model.resolution, channels=config.model.channels
    )
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_text(workdir / "config.json", config_lib.to_json(config))
    with checkpoints.Checkpoints(
        workdir / "checkpoints",
        to_keep=config.train.checkpoints_to_keep,
        keep_every_steps=config.train.keep_checkpoint_every_steps,
    ) as saved:
        if saved.steps():
            state = saved.restore(sharding.abstract_state(config, mesh))
        else:
            state = sharding.init_state(config, mesh)
        start_step = int(state.step)
        telemetry.write_provenance(workdir, start_step)
        with telemetry.Telemetry(workdir, config, start_step) as records:
            _loop(config, mesh, images, state, saved, records)


def _check_same_run(workdir: Path, config: Config) -> None:
    """Raises ConfigError, naming the fields, if the run in `workdir` is not this config's."""
    path = workdir / "config.json"
    if not path.exists():
        return
    saved = config_lib.parse(json.loads(path.read_text(encoding="utf-8")))
    if differing := config_lib.differing_fields(saved, config):
        lines = "\n".join(f"{name}: {old!r} there, {new!r} here" for name, old, new in differing)
        raise ConfigError(f"--workdir={workdir}: it holds a run of another config\n{lines}")


def _loop(
    config: Config,
    mesh: Mesh,
    images: np.ndarray,
    state: TrainState,
    saved: checkpoints.Checkpoints,
    records: telemetry.Telemetry,
) -> None:
    t = config.train
    train_step = sharding.compile_step(config, mesh)
    fixed_samples = sharding.replicate(functools.partial(generate.fixed_samples, config), mesh)
    reconstructions = sharding.replicate(functools.partial(generate.reconstructions, config), mesh)
    real = np.asarray(images[: t.num_samples])
    recorder = Recorder(records, real, _data_spread(images))
    in_flight: collections.deque[Metrics] = collections.deque()
    unrecorded: list[Metrics] = []
    last_time = time.monotonic()
    with signals.collect() as received:
        for step in range(int(state.step), t.num_steps):
            indices = order.batch_indices(config.seed, step, t.batch_size, len(images))
            state, metrics = train_step(state, sharding.put_batch(images[indices], mesh))
            unrecorded.append(metrics)
            in_flight.append(metrics)
            if len(in_flight) > _MAX_STEPS_IN_FLIGHT:
                jax.block_until_ready(in_flight.popleft())

            done = step + 1
            ending = done == t.num_steps or bool(received)
            with_grids = done == t.num_steps or _crosses_multiple(
                done * t.batch_size, t.batch_size, t.sample_every_images
            )
            if done % t.log_every_steps == 0 or with_grids or ending:
                samples, spread = fixed_samples(state)
                d_real = reconstructions(state, real) if with_grids else None
                kept = samples if with_grids else None
                now = time.monotonic()  # the device is at most a few steps behind the host
                rate = t.batch_size * len(unrecorded) / (now - last_time)
                recorder.put(Record(done, rate, unrecorded, spread, kept, d_real))
                unrecorded, last_time = [], now
            if done % t.checkpoint_every_steps == 0 or ending:
                recorder.flush()  # looks at the losses: a state that diverged is never saved
                saved.save(done, state)
            if received:
                raise signals.Stopped(received[0], done)
    recorder.flush()


def _crosses_multiple(value: int, increment: int, of: int) -> bool:
    """Whether a multiple of `of` lies in (value − increment, value]."""
    return value // of > (value - increment) // of


def _data_spread(images: np.ndarray) -> float:
    """`generate.spread` of up to 4,096 training images, in units of [−0.5, 0.5]."""
    some = images[:: max(1, len(images) // _NUM_IMAGES_FOR_SPREAD)]
    return float(np.sqrt(np.mean(np.var(some, axis=0, dtype=np.float64)))) / 255.0
