"""Studies: a question each, the runs that answer it, and what is still to be made of them."""

import dataclasses
import importlib.util
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from began_jax import errors, files
from began_jax.schema import EvalConfig
from launch import points, run_folders
from launch.points import Run

BUDGETS = ("small", "full")
SETTINGS = "study.json"  # beside the runs: which study they are of, and how they were asked for

Runs = Mapping[str, list[Run]]  # by their point's label, a run for each seed


@dataclasses.dataclass(frozen=True)
class Study:
    """Runs that differ in what a question is about, and how they are drawn."""

    question: str
    points: Mapping[str, str]
    """By label, the fields that a point changes in its budget's config, as a sweep's --list."""
    axis: str = ""
    """The numeric field, as in 'began.gamma', that metrics are drawn over; none: side by side."""
    line: str = ""
    """A field that differs between points of the same value on the axis."""
    num_seeds: int = 3
    every_checkpoint: bool = False
    """Evaluates all checkpoints kept and draws over the images seen."""
    pictures: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """By label, arguments of main.py that make one of each point's run of seed 0."""


def load(file: str, budget: str, fixed: list[str]) -> tuple[Study, Runs]:
    """The study of a file of configs/studies, and its runs.

    Args:
      file: has `get_study(base)`, where `base` is the budget's config.
      budget: "small" or "full", the config file beside it.
      fixed: `--config.<field>=<value>` arguments that all runs share.

    Raises:
      UserError: no study is there, or a point is no valid run.
    """
    base = str(Path(file).with_name(f"{budget}.py"))
    study = _get_study(file)(points.parse([f"--config={base}", *fixed]))
    return study, {
        label: points.runs(base, fixed, [text] if text else [], [], study.num_seeds)
        for label, text in study.points.items()
    }


def _get_study(file: str) -> Any:
    path = Path(file)
    if not path.is_file():
        raise errors.UserError(f"{file}: no such file")
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.get_study
    except (AssertionError, AttributeError, ImportError, SyntaxError) as error:
        raise errors.UserError(f"{file}: no study: {errors.one_line(error)}") from error


def reports(folder: Path, config: EvalConfig) -> dict[int, dict[str, Any]]:
    """A run's evaluations by step: those of the config's network and numbers."""
    found = {}
    for path in sorted(folder.glob("eval/*/*.json")):
        if not path.stem.isdecimal():
            continue
        try:
            one = files.read_json(path)
            asked = (one["network"], one["num_samples"], len(one["seeds"]))
            if asked == (config.network, config.num_samples, config.num_seeds):
                found[int(one["step"])] = one
        except (errors.UserError, KeyError, TypeError, ValueError):
            continue  # a report that cannot be read is made again
    return found


def is_evaluated(study: Study, run: Run, folder: Path) -> bool:
    """Whether the newest checkpoint, or where the study asks for it every one, has a report."""
    steps = run_folders.checkpoint_steps(folder)
    wanted = steps if study.every_checkpoint else steps[-1:]
    return set(wanted) <= set(reports(folder, run.config.eval))


def picture(folder: Path, run: Run, arguments: str) -> Path:
    """Where a picture of a run's newest checkpoint stands."""
    step = max(run_folders.checkpoint_steps(folder), default=0)
    name = re.sub(r"[^\w.]+", "-", arguments).strip("-")
    return folder / "study" / f"{step:08d}-{name}.png"


def shows_data(arguments: str) -> bool:
    """Whether images of the data set are in a picture, beside what G makes."""
    modes = ("--mode=sample", "--mode=timeline", "--between=latents")
    return not any(mode in arguments for mode in modes)


def is_of_study(path: Path) -> bool:
    """Return whether a JSON file holds a study's settings, so that a study may replace it."""
    try:
        found = files.read_json(path)
    except errors.UserError:
        return False
    return isinstance(found, dict) and {"study", "budget", "fixed", "command"} <= set(found)


def check_workdir(workdir: Path) -> None:
    """Raise UserError if `save_settings` would replace a file that no study wrote."""
    path = workdir / SETTINGS
    if os.path.lexists(path) and not is_of_study(path):
        raise errors.UserError(
            f"--workdir={workdir}: holds {SETTINGS}, which no study wrote. "
            "Choose another --workdir."
        )


def save_settings(workdir: Path, settings: Mapping[str, Any]) -> None:
    """Notes how a study's runs were asked for."""
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_text(workdir / SETTINGS, json.dumps(settings, indent=2) + "\n")


def load_settings(workdir: Path) -> dict[str, Any]:
    """What `save_settings` noted.

    Raises:
      UserError: no study is there.
    """
    found = files.read_json(workdir / SETTINGS)
    if not is_of_study(workdir / SETTINGS):
        raise errors.UserError(f"{workdir / SETTINGS}: no study has been run there")
    return found
