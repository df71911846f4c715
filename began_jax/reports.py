"""What an evaluation leaves in a run's folder: reports, their table, TensorBoard, correlations."""

import csv
import hashlib
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from scipy import stats

from began_jax import errors, files, progress, rollbacks, telemetry

# What must be the same for reports to be compared with one another.
_BASIS = (
    *("generator", "num_samples", "num_reference", "seeds", "network", "network_sha256"),
    *("reference", "definitions", "regressor"),
)
# The columns of a table beside the metrics.
_FIRST_COLUMNS = ("step", "images", "m_global", "m_global_over_steps")
_LAST_COLUMNS = ("state_sha256", "rollbacks", "commit", "uncommitted_changes")

Report = dict[str, Any]


class Metric(TypedDict):
    """A metric of a checkpoint's samples."""

    mean: float  # over the seeds of the latents
    std: float | None  # the standard deviation over them; None of one
    values: list[float]  # by seed
    errors: NotRequired[list[float]]
    """By seed, of the kernel distance its standard error over blocks, of the Inception score its
    standard deviation over splits."""
    of_data: NotRequired[float]  # the data's own value


def metric(values: Sequence[float]) -> Metric:
    """A metric's mean and spread over seeds."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": spread, "values": list(values)}


def folder(workdir: Path, report: Report) -> Path:
    """Where reports that can be compared stand together: eval/<network>[-raw]-<samples>-<hash>.

    The hash is of all that must be the same for it: seeds, weights, reference, definitions.
    """
    raw = "-raw" if report["generator"] == "raw" else ""
    digest = hashlib.sha256(json.dumps(_basis(report), sort_keys=True).encode()).hexdigest()
    name = f"{report['network']}{raw}-{report['num_samples']}-{digest[:8]}"
    return workdir / "eval" / name


def write(workdir: Path, report: Report) -> Path:
    """Writes <folder>/<step>.json, and of all its reports table.csv, correlations.json and the
    TensorBoard run eval-<folder>.

    A report of the same step, made before, is replaced.
    """
    place = folder(workdir, report)
    files.check_no_link(place)
    place.mkdir(parents=True, exist_ok=True)
    out = place / f"{report['step']:08d}.json"
    files.write_text(out, json.dumps(report, indent=2) + "\n")
    past = rollbacks.load(workdir)
    found = _load(workdir, place)
    files.write_text(place / "table.csv", _table(found, past))
    found = [one for one in found if not rollbacks.undone(past, one["step"], one["rollbacks"])]
    text = {**correlations(found), **_basis(report)}
    files.write_text(place / "correlations.json", json.dumps(text, indent=2) + "\n")
    by_step = {one["step"]: means(one) for one in found}
    telemetry.write_evaluations(workdir, place.name, by_step)
    return out


def correlations(reports: Sequence[Report]) -> dict[str, Any]:
    """Spearman's rank correlations over a run's checkpoints.

    Of reports with a recorded M_global, if there are three of them; of values that change.

    Returns:
      `steps`; `with_m_global`, of every metric: 1 where it rises and falls with M_global, which is
      good of one that is better the lower; `with_step`, of every metric and of M_global itself: all
      that changes in one direction correlates with all else that does.
    """
    known = [one for one in reports if one["m_global"] is not None]
    steps = [one["step"] for one in known]
    m_global = [one["m_global"] for one in known]
    every = [means(one) for one in known]
    shared = [name for name in (every[0] if every else []) if all(name in one for one in every)]
    columns = {name: [one[name] for one in every] for name in shared}
    return {
        "steps": steps,
        "with_m_global": _rank_correlations(m_global, columns),
        "with_step": _rank_correlations(steps, {"m_global": m_global, **columns}),
    }


def _rank_correlations(
    with_values: Sequence[float], columns: Mapping[str, Sequence[float]]
) -> dict[str, float]:
    if len(with_values) < 3 or len(set(with_values)) == 1:
        return {}
    return {
        name: float(stats.spearmanr(with_values, values).statistic)
        for name, values in columns.items()
        if len(set(values)) > 1
    }


def means(report: Report) -> dict[str, float]:
    """The metrics' means over seeds."""
    return {name: of["mean"] for name, of in report["metrics"].items()}


def is_main(name: str) -> bool:
    """Whether a metric is told where there is little room; the 17 factors' single ones are not."""
    return not name.startswith("coverage_")


def summary(report: Report) -> str:
    """A report's main metrics in one line, the data's own values beside them."""
    return ", ".join(
        f"{name} {_told(of)}" for name, of in report["metrics"].items() if is_main(name)
    )


def _basis(report: Report) -> dict[str, Any]:
    return {name: report[name] for name in _BASIS}


def _told(metric: Metric) -> str:
    spread = "" if metric["std"] is None else f" ± {metric['std']:.2g}"
    of_data = f" (data {metric['of_data']:.4g})" if "of_data" in metric else ""
    return f"{metric['mean']:.4g}{spread}{of_data}"


def _load(workdir: Path, place: Path) -> list[Report]:
    """The reports of a folder by step; what is none of them is told and left out."""
    found = []
    for path in sorted(place.glob("*.json")):
        if path.name == "correlations.json":
            continue
        try:
            one = files.read_json(path)
            if path != folder(workdir, one) / f"{one['step']:08d}.json":
                raise ValueError
        except (errors.UserError, KeyError, TypeError, ValueError):
            progress.say(f"{path}: not a report of {place.name}; left out of its table.csv")
        else:
            found.append(one)
    return found


def _table(reports: Sequence[Report], past: Sequence[dict[str, Any]]) -> str:
    """CSV, a line for each report: of each metric the mean, standard deviation and data's own.

    `rolled_back`: whether it is of a course of the run that one of its `past` rollbacks left.
    """
    lines: list[dict[str, Any]] = []
    for one in reports:
        line = {name: one.get(name) for name in _FIRST_COLUMNS}
        line["rolled_back"] = rollbacks.undone(past, one["step"], one["rollbacks"])
        for name, of in one["metrics"].items():
            line.update({name: of["mean"], f"{name}_std": of["std"]})
            if "of_data" in of:
                line[f"{name}_of_data"] = of["of_data"]
        lines.append({**line, **{name: one.get(name) for name in _LAST_COLUMNS}})
    text = io.StringIO()
    # All that any has: a metric may have been added between two evaluations.
    columns = dict.fromkeys(name for line in lines for name in line if name not in _LAST_COLUMNS)
    writer = csv.DictWriter(text, [*columns, *_LAST_COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
