"""The rollbacks of a run: recorded before they count, so that no kill loses one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from began_jax import files
from began_jax.health import Unwell


def load(workdir: Path) -> list[dict[str, Any]]:
    """The run's rollbacks, oldest first: each a checkpoint's step and the alarms behind it.

    Raises:
      UserError: rollbacks.json cannot be read.
    """
    return files.read_json(workdir / "rollbacks.json") or []


def undone(past: Sequence[dict[str, Any]], step: int, seen: int) -> bool:
    """Whether the state after `step` steps, made when there had been `seen` rollbacks, is of a
    course that a later one left."""
    return any(step > one["step"] for one in past[seen:])


def add(workdir: Path, step: int, unwell: Unwell) -> None:
    """Adds the rollback to the checkpoint of `step` (0: to the start) for what was unwell."""
    entry = {"step": step, "alarm_step": unwell.step, "alarms": unwell.alarms}
    text = json.dumps([*load(workdir), entry], indent=2)
    files.write_text(workdir / "rollbacks.json", text + "\n")
