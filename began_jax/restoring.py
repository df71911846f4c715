"""A run's config, states and records, from its folder alone and on one device."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from began_jax import backends, checkpoints, data, errors, sharding
from began_jax import config as config_lib
from began_jax.checkpoints import CheckpointError
from began_jax.data import identity
from began_jax.schema import Config
from began_jax.train_state import TrainState


def load_config(workdir: Path) -> Config:
    """The run's config, for every program but the train step.

    Raises:
      ConfigError: no run is there, or one of another version of this program.
    """
    return backends.for_one_pass(config_lib.load(workdir / "config.json"))


def restore(workdir: Path, step: int | None) -> tuple[Config, TrainState]:
    """The config and the state of a step (None: the newest that can be read).

    On however many devices of whatever kind the run was trained, the state comes to this process'
    first device.

    Raises:
      UserError: no run, no checkpoint, or none of this step.
    """
    loaded = load_config(workdir)
    target = sharding.abstract_state(loaded, sharding.make_mesh(1, jax.devices()[:1]))
    with checkpoints.Checkpoints(workdir / "checkpoints") as saved:
        return loaded, saved.restore(target, step)


def every_state(workdir: Path) -> Iterator[tuple[Config, TrainState]]:
    """The config and the state of each checkpoint, oldest first.

    One that cannot be read, or that a training on its way has dropped meanwhile, is told on
    standard error and left out.

    Raises:
      UserError: no run, or no checkpoint that can be read.
    """
    found = False
    for step in steps(workdir):
        try:
            restored = restore(workdir, step)
        except CheckpointError as error:
            print(f"{error}; it is left out", file=sys.stderr)
            continue
        found = True
        yield restored
    if not found:
        raise CheckpointError(f"no readable checkpoint in {workdir / 'checkpoints'}")


def load_data(workdir: Path, config: Config) -> np.ndarray:
    """The run's data, uint8 (N, R, R, C).

    Raises:
      ConfigError: it cannot be loaded, or is not what the run was trained on.
      UserError: nothing tells what that was.
    """
    images = data.load(
        config.data, resolution=config.model.resolution, channels=config.model.channels
    )
    identity.check(workdir / "data.json", images)
    return images


def steps(workdir: Path) -> list[int]:
    """The steps of the run's checkpoints, ascending."""
    with checkpoints.Checkpoints(workdir / "checkpoints") as saved:
        return saved.steps()


def records(workdir: Path) -> list[dict[str, Any]]:
    """`lines`, those that are `measured`."""
    return measured(lines(workdir))


def measured(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without those that tell only of steps that were not finite."""
    return [line for line in lines if "m_global" in line]


def lines(workdir: Path) -> list[dict[str, Any]]:
    """What metrics.jsonl holds, by step; nothing where there is none.

    Raises:
      UserError: it cannot be read.
    """
    path = workdir / "metrics.jsonl"
    try:
        text = path.read_text(encoding="utf-8")
        # A killed run's last line may be torn; the run itself drops it when it goes on.
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1:] == "\n"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise errors.UserError(f"{path}: cannot be read ({errors.one_line(error)})") from error


def recorded_mean(
    records: Sequence[dict[str, Any]], name: str, step: int, num_steps: int
) -> tuple[float | None, int]:
    """What was recorded under `name`, its mean over the `num_steps` steps up to `step`.

    Returns:
      The mean (None of no step), and how many of those steps the records up to `step` cover.
    """
    total, covered = 0.0, 0
    for record in records:
        if record["step"] > step:
            break
        steps = min(record["num_steps"], record["step"] - (step - num_steps))
        if steps > 0:
            total += steps * record[name]
            covered += steps
    return (total / covered if covered else None), covered
