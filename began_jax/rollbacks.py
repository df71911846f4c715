"""The rollbacks of a run: recorded before they count, so that no kill loses one."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from began_jax import errors, files
from began_jax.health import Unwell


def load(workdir: Path) -> list[dict[str, Any]]:
    """The run's rollbacks, oldest first: each a checkpoint's step and the alarms behind it.

    Raises:
      UserError: rollbacks.json cannot be read.
    """
    return files.read_json(workdir / "rollbacks.json") or []


def undone(past: Sequence[dict[str, Any]], step: int, seen: int) -> bool:
    """Whether a later rollback discarded the state after `step` steps that had seen so many."""
    return any(step > one["step"] for one in past[seen:])


def add(workdir: Path, steps: Sequence[int], most: int, unwell: Unwell) -> None:
    """Adds, and says, the rollback to the last good one of these steps of checkpoints, or to 0.

    Raises:
      UserError: there were as many as `most` before.
    """
    past = load(workdir)
    if len(past) >= most:
        raise errors.UserError(f"{unwell}; {len(past)} rollbacks did not help") from unwell
    good = [step for step in steps if unwell.good_step is None or step <= unwell.good_step]
    # Where the last good step was before all that is left, the oldest of these is nearest to it.
    step = max(good, default=0 if unwell.good_step == 0 else min(steps, default=0))
    entry = {"step": step, "alarm_step": unwell.step, "alarms": unwell.alarms}
    files.write_text(workdir / "rollbacks.json", json.dumps([*past, entry], indent=2) + "\n")
    print(f"{unwell}; rollback {len(past) + 1}: to step {step}", file=sys.stderr)
