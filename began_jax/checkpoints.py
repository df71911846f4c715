"""Saving and restoring the train state; the only module that imports Orbax."""

import errno
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from began_jax import digests, errors, processes, progress
from began_jax.train_state import TrainState

_STATE, _DIGEST, _METADATA = "state", "digest", "_CHECKPOINT_METADATA"
# What Orbax raises for files that cannot be written.
_FILE_ERRORS = (ValueError, KeyError, OSError)


def _without_late_calls() -> Callable[[Any], None]:
    """Python's hook for errors that nobody can catch, without Orbax's hundreds of them.

    After one read or write that fails the others find its event loop closed, or are never awaited.
    """
    usual = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        file = getattr(getattr(unraisable.object, "cr_code", None), "co_filename", "")
        if str(unraisable.exc_value) != "Event loop is closed" and "orbax" not in file:
            usual(unraisable)

    return hook


sys.unraisablehook = _without_late_calls()


class CheckpointError(errors.UserError):
    """No checkpoint, none that can be read, or one that was not saved."""


class Checkpoints:
    """The checkpoints of one run: asynchronous, atomic (a rename makes one visible), bounded.

    Use as a context manager: leaving it waits for the save in flight.
    """

    def __init__(self, directory: Path, *, to_keep: int | None = None, keep_every_steps: int = 0):
        """Keeps the newest `to_keep` and, if not 0, every multiple of `keep_every_steps`.

        And those that `save` is told of. Without `to_keep` the directory is only read.

        Raises:
          CheckpointError: the directory is written and holds a folder that is no checkpoint but
            has the name of one.
        """
        self._read_only = read_only = to_keep is None
        self._good_steps: Sequence[int] = ()
        policies: list[Any] = [checkpoint_managers.LatestN(to_keep), _NewestUpToGoodSteps(self)]
        if keep_every_steps:
            policies.append(checkpoint_managers.EveryNSteps(keep_every_steps))
        if not read_only:
            directory.mkdir(parents=True, exist_ok=True)
            _check_steps(directory)
        self._manager = ocp.CheckpointManager(
            os.path.abspath(directory),  # Orbax fails late and loudly on a relative path
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
                create=False,
                save_interval_steps=0 if read_only else 1,  # else Orbax warns
                # Else it would wait for the run's other processes, which do not save.
                multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes={0}),
            ),
            item_names=(_STATE, _DIGEST),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, exc_type: object, *exc_info: object) -> None:
        try:
            self._manager.close()
        except _FILE_ERRORS as error:
            if exc_type is None:  # else that is on its way, and tells more
                raise CheckpointError(f"the last save failed: {_reason(error)}") from error

    def steps(self) -> list[int]:
        """The steps saved, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: TrainState, good_steps: Sequence[int] = ()) -> None:
        """Starts saving the state and its fingerprint; returns when the state is copied.

        Keeps, besides those that `__init__` names, the newest checkpoint up to each good step.

        A step that is there already is left alone: the state is a function of the step, and
        `restore` has put away what cannot be read.

        Raises:
          CheckpointError: this save or the one before failed.
        """
        self._good_steps = good_steps
        if step in self.steps():
            return
        if processes.are_several():  # else Orbax takes arrays of one device for a mistake
            state = jax.device_get(state)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            digest=ocp.args.JsonSave({"sha256": fingerprint(state)}),
        )
        try:
            saved = self._manager.save(step, args=args)
        except _FILE_ERRORS as error:
            raise CheckpointError(
                f"step {step} or the one before is not saved: {_reason(error)}; there are "
                f"{self.steps()}"
            ) from error
        if not saved:
            raise CheckpointError(f"step {step} is not saved, as there are {self.steps()}")

    def wait(self) -> None:
        """Waits for the save in flight.

        Raises:
          CheckpointError: it failed.
        """
        try:
            self._manager.wait_until_finished()
        except _FILE_ERRORS as error:
            raise CheckpointError(f"the last save failed: {_reason(error)}") from error

    def restore(self, target: TrainState, step: int | None = None) -> TrainState:
        """The state of a step, or of the newest that can be read.

        Args:
          target: shapes, dtypes and shardings (`sharding.abstract_state`).
          step: a saved step; None for the newest. One that cannot be read, or whose bytes are not
            those that were saved, is passed over with a warning and, when an older one was read
            and unless the directory is only read, moved to `damaged-checkpoints` beside it; an
            asked-for one is not.

        Raises:
          CheckpointError: there is nothing to restore, or nothing that can be read: what cannot be
            read for a passing reason must not be lost; or the save in flight failed.
        """
        self.wait()
        steps = self.steps()
        if step is not None and step not in steps:
            raise CheckpointError(f"no checkpoint of step {step}; there are {steps}")
        unreadable = []
        for candidate in [step] if step is not None else reversed(steps):
            try:
                restored = self._read(candidate, target)
            except (jax.errors.JaxRuntimeError, MemoryError):
                raise  # not the files' fault
            except Exception as error:  # Orbax raises many kinds, Exception itself among them
                message = f"checkpoint {candidate} cannot be read: {errors.one_line(error)}"
                if step is not None:
                    raise CheckpointError(message) from error
                progress.say(message)
                unreadable.append(candidate)
            else:
                for newer in unreadable:
                    self.put_away(newer, "damaged-checkpoints")
                return restored
        raise CheckpointError(f"no readable checkpoint in {self._manager.directory}")

    def _read(self, step: int, target: TrainState) -> TrainState:
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(target), digest=ocp.args.JsonRestore()
        )
        found = self._manager.restore(step, args=args)
        # Orbax keeps no checksum: a flipped bit would go on training.
        if fingerprint(found[_STATE]) != found[_DIGEST]["sha256"]:
            raise ValueError("its bytes are not those that were saved")
        return found[_STATE]

    def put_away(self, step: int, folder: str) -> None:
        """Moves a checkpoint to a folder beside the others, unless the directory is only read.

        Orbax would save nothing up to the newest step that it sees.
        """
        if self._read_only:
            return
        directory = Path(self._manager.directory)
        (directory.parent / folder).mkdir(exist_ok=True)
        apart = directory.parent / folder / f"{step}-{uuid.uuid4().hex}"
        shutil.move(directory / str(step), apart)  # `checkpoints` may be a link to another disk
        self._manager.reload()


class _NewestUpToGoodSteps:
    """Orbax's policy: keeps the newest of the checkpoints up to each good step."""

    def __init__(self, checkpoints: Checkpoints):
        self._checkpoints = checkpoints

    def should_preserve(self, infos: Sequence[Any], *, context: Any) -> list[bool]:
        """Which of the checkpoints are kept."""
        del context
        steps = [info.step for info in infos]
        kept = {
            max((step for step in steps if step <= good), default=None)
            for good in self._checkpoints._good_steps
        }
        return [step in kept for step in steps]


def _check_steps(directory: Path) -> None:
    """Raise CheckpointError for a folder that Orbax would take for a checkpoint and delete.

    An empty one may be a damaged checkpoint.
    """
    for path in directory.iterdir():
        if re.fullmatch("0|[1-9][0-9]*", path.name) and path.is_dir():
            names = {inner.name for inner in path.iterdir()}
            if path.is_symlink() or (names and not names & {_STATE, _DIGEST, _METADATA}):
                raise CheckpointError(f"{path}: must be a checkpoint. Move it elsewhere.")


def _reason(error: Exception) -> str:
    """Orbax's own text has a thousand characters where a disk is full."""
    full = os.strerror(errno.ENOSPC)
    return full if full in str(error) else errors.one_line(error)


def fingerprint(state: TrainState) -> str:
    """SHA-256 over every array's path, dtype, shape and bytes; the same on any device count."""
    return digests.sha256(
        (jax.tree_util.keystr(path), np.asarray(jax.device_get(leaf)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    )
