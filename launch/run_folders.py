"""What run folders tell, read without trusting them: what cannot be read is told, and left out."""

import dataclasses
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from began_jax import errors, files, run_folder

Scalar = str | int | float | bool | None


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run, as far as it can be read."""

    name: str  # the path below what all runs have in common
    config: dict[str, Scalar]  # by 'began.gamma'
    records: list[dict[str, float]]  # metrics.jsonl, ascending; each has step, images, m_global
    alarms: Counter[str]  # in how many records, and rollbacks
    evaluations: dict[str, dict[str, float]]  # the newest step's metrics, and 'step', by folder
    grid: Path | None  # the newest of samples/
    origin: dict[str, Scalar]  # commit, devices and machine of the last start
    problems: list[str]


def find(paths: Sequence[Path]) -> tuple[list[RunFolder], list[tuple[str, str]]]:
    """The runs in or below the paths, each once, and (name, reason) of all that cannot be read.

    Raises:
      UserError: a path that is not there, or no run at all.
    """
    seen: set[Path] = set()
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise errors.UserError(f"{path}: no such folder")
        found.extend(_below(path, seen))
    if not found:
        told = ", ".join(map(str, paths))
        raise errors.UserError(f"{told}: no run is there or below: no folder with a config.json")
    runs, problems = [], []
    for name, path in zip(_names(found), found, strict=True):
        try:
            run = read(path, name)
        except (errors.UserError, OSError) as error:
            problems.append((name, errors.one_line(error).replace(f"{path}/", "")))
            continue
        runs.append(run)
        problems.extend((name, problem) for problem in run.problems)
    return runs, problems


def read(path: Path, name: str) -> RunFolder:
    """The run in a folder.

    Raises:
      UserError: its config.json cannot be read.
    """
    config = files.read_json(path / "config.json")
    if not isinstance(config, dict):
        raise errors.UserError(f"{path / 'config.json'}: no config is in it")
    problems: list[str] = []
    lines = _lines(path / "metrics.jsonl", problems)
    numbers = [_numbers(line) for line in lines]
    records = [line for line in numbers if "m_global" in line]
    return RunFolder(
        name=name,
        config=_flat(config),
        records=sorted(records, key=lambda record: record["step"]),
        alarms=Counter(str(alarm) for line in lines for alarm in _list(line.get("alarms")))
        + _rolled_back(path / "rollbacks.json", problems),
        evaluations=_evaluations(path / "eval", problems),
        grid=next(reversed(run_folder.sample_grids(path).values()), None),
        origin=_origin(path / "provenance.json", problems),
        problems=problems,
    )


def checkpoint_steps(path: Path) -> list[int]:
    """The steps of a run's whole checkpoints, ascending."""
    return sorted(
        int(one.name)
        for one in (path / "checkpoints").glob("[0-9]*")
        # Orbax renames a checkpoint to its step when all of it is written.
        if one.name.isdecimal() and (one / "_CHECKPOINT_METADATA").is_file()
    )


def _below(path: Path, seen: set[Path]) -> Iterator[Path]:
    """Every run folder; links are followed, but no folder is visited twice."""
    resolved = path.resolve()
    if resolved in seen:
        return
    seen.add(resolved)
    if (path / "config.json").exists():
        yield path
        return
    try:
        children = sorted(path.iterdir())
    except OSError as error:
        print(f"{path}: {error.strerror}; left out", file=sys.stderr)
        return
    for child in children:
        if child.is_dir() and not child.name.startswith("."):
            yield from _below(child, seen)


def _names(paths: Sequence[Path]) -> list[str]:
    """The ends of the paths that tell them apart."""
    parts = [path.absolute().parts for path in paths]
    common = 0
    while len({part[: common + 1] for part in parts}) == 1 and common + 1 < min(map(len, parts)):
        common += 1
    return ["/".join(part[common:]) for part in parts]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found.update(_flat(value, f"{prefix}{name}."))
        else:
            is_scalar = value is None or isinstance(value, str | int | float)
            found[prefix + name] = value if is_scalar else json.dumps(value)
    return found


def _lines(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """The lines that tell of a step; a killed run's last one may be torn."""
    try:
        text = path.read_bytes().decode(errors="replace")
    except OSError as error:
        problems.append(f"{path.name}: {error.strerror}")
        return []
    found, bad = [], []
    for i, line in enumerate(text.split("\n"), 1):
        if not line:
            continue
        try:
            record = json.loads(line)
            if not {"step", "images"} <= _numbers(record).keys():
                raise ValueError
            found.append(record)
        except (ValueError, AttributeError, RecursionError):
            bad.append(i)
    if bad and not text.endswith("\n") and bad[-1] == text.count("\n") + 1:
        problems.append(f"{path.name}: the last line is torn")
        bad.pop()
    if bad:
        problems.append(f"{path.name}: cannot be read in line {', '.join(map(str, bad))}")
    if not found:
        problems.append(f"{path.name}: nothing is recorded")
    return found


def _rolled_back(path: Path, problems: list[str]) -> Counter[str]:
    """The alarms that were acted on; the records from then on were dropped."""
    try:
        return Counter(str(alarm) for one in files.read_json(path) or [] for alarm in one["alarms"])
    except (errors.UserError, KeyError, TypeError):
        problems.append(f"{path.name}: cannot be read")
        return Counter()


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and not 1e30 < abs(value) < math.inf  # what no chart can show, and no run of ours records
    }


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _evaluations(path: Path, problems: list[str]) -> dict[str, dict[str, float]]:
    """Of each folder, whatever its name: reports that can be compared stand in one of that name."""
    found = {}
    for folder in sorted(path.iterdir()) if path.is_dir() else []:
        newest = _newest(folder)
        if newest is None:
            continue
        try:
            report = files.read_json(newest)
            means = {name: metric["mean"] for name, metric in report["metrics"].items()}
            found[folder.name] = {"step": report["step"], **_numbers(means)}
        except (errors.UserError, KeyError, TypeError, AttributeError):
            problems.append(f"{newest.relative_to(path.parent)}: cannot be read")
    return found


def _newest(folder: Path) -> Path | None:
    """Return the report with the highest step."""
    found = [path for path in folder.glob("*.json") if path.stem.isdecimal()]
    return max(found, key=lambda path: int(path.stem), default=None)


def _origin(path: Path, problems: list[str]) -> dict[str, Scalar]:
    """The commit, devices and machine of a run's last start, as far as they are told."""
    try:
        starts = files.read_json(path) or [{}]
        last = starts[-1]
        devices = Counter(last.get("devices", []))
        processor = last.get("processor") or "an unknown processor"
        machine = (
            f"{processor}, Python {last.get('python')}, jax {last.get('packages', {}).get('jax')}"
        )
    except (errors.UserError, KeyError, TypeError, AttributeError):
        problems.append(f"{path.name}: cannot be read")
        return {}
    told = ", ".join(f"{num} × {device}" for device, num in devices.items())
    commit = str(last.get("commit") or "")[:10]
    return {
        "devices": told,
        "commit": commit + ("+" if last.get("uncommitted_changes") else ""),
        "machine": machine,
    }


def is_finite(value: object) -> bool:
    """Whether a value is a number that can be drawn."""
    return isinstance(value, int | float) and math.isfinite(value)
