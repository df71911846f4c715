"""Saving and restoring the train state; the only module that imports Orbax."""

import hashlib
import os
import uuid
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from began_jax import errors
from began_jax.train_state import TrainState

_STATE = "state"


class CheckpointError(errors.UserError):
    """No checkpoint, none that can be read, or one that was not saved."""


class Checkpoints:
    """The checkpoints of one run: asynchronous, atomic (a rename makes one visible), bounded.

    Use as a context manager: leaving it waits for the save in flight.
    """

    def __init__(self, directory: Path, *, to_keep: int | None = None, keep_every_steps: int = 0):
        """Keeps the newest `to_keep` and, if not 0, every multiple of `keep_every_steps`.

        Without `to_keep` the directory is only read.
        """
        self._read_only = read_only = to_keep is None
        policies: list[Any] = [checkpoint_managers.LatestN(to_keep)]
        if keep_every_steps:
            policies.append(checkpoint_managers.EveryNSteps(keep_every_steps))
        self._manager = ocp.CheckpointManager(
            os.path.abspath(directory),  # Orbax fails late and loudly on a relative path
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
                create=not read_only,
                save_interval_steps=0 if read_only else 1,  # else Orbax warns
            ),
            item_names=(_STATE,),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """The steps saved, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: TrainState) -> None:
        """Starts saving; returns when the state is copied, so that it may be donated.

        A step that is there already is left alone: the state is a function of the step, and
        `restore` has put away what cannot be read.

        Raises:
          CheckpointError: Orbax did not take it.
        """
        if step in self.steps():
            return
        args = ocp.args.Composite(state=ocp.args.StandardSave(state))
        if not self._manager.save(step, args=args):
            raise CheckpointError(f"step {step} is not saved, as there are {self.steps()}")

    def restore(self, target: TrainState, step: int | None = None) -> TrainState:
        """The state of a step, or of the newest that can be read.

        Args:
          target: shapes, dtypes and shardings (`sharding.abstract_state`).
          step: a saved step; None for the newest. One that cannot be read is passed over with a
            warning and, unless the directory is only read, moved to `damaged-checkpoints` beside
            it; an asked-for one is not.

        Raises:
          CheckpointError: there is nothing to restore.
        """
        steps = self.steps()
        if step is not None and step not in steps:
            raise CheckpointError(f"no checkpoint of step {step}; there are {steps}")
        for candidate in [step] if step is not None else reversed(steps):
            try:
                args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
                return self._manager.restore(candidate, args=args)[_STATE]
            except (ValueError, KeyError, OSError) as error:  # what Orbax raises for damaged files
                message = f"checkpoint {candidate} cannot be read: {errors.one_line(error)}"
                if step is not None:
                    raise CheckpointError(message) from error
                logging.warning("%s", message)
                self._put_away(candidate)
        raise CheckpointError(f"no readable checkpoint in {self._manager.directory}")

    def _put_away(self, step: int) -> None:
        """Orbax would save nothing up to the newest step that it sees, readable or not."""
        if self._read_only:
            return
        directory = Path(self._manager.directory)
        damaged = directory.parent / "damaged-checkpoints"
        damaged.mkdir(exist_ok=True)
        os.rename(directory / str(step), damaged / f"{step}-{uuid.uuid4().hex}")
        self._manager.reload()


def fingerprint(state: TrainState) -> str:
    """SHA-256 over every array's path, dtype, shape and bytes; the same on any device count."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = np.asarray(jax.device_get(leaf))
        name = jax.tree_util.keystr(path)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
