"""What an evaluation leaves in a run's folder: reports, their table, TensorBoard, correlations."""

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from scipy import stats

from began_jax import files, telemetry

# Of what stands in a report, the columns that tell one line of a table from another.
_COLUMNS = ("step", "images", "num_samples", "num_reference", "m_global")
_HASHES = ("network_sha256", "reference", "commit")

Report = dict[str, Any]


class Metric(TypedDict):
    """A metric of a checkpoint's samples."""

    mean: float  # over the seeds of the latents
    std: float | None  # the standard deviation over them; None of one
    values: list[float]  # by seed
    errors: NotRequired[list[float]]
    """By seed, of the kernel distance its standard error over subsets, of the Inception score its
    standard deviation over splits."""
    of_data: NotRequired[float]  # the data's own value


def metric(values: Sequence[float]) -> Metric:
    """A metric's mean and spread over seeds."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": spread, "values": list(values)}


def folder(workdir: Path, report: Report) -> Path:
    """Where reports that can be compared stand together: eval/<network>[-raw]-<samples>."""
    raw = "-raw" if report["generator"] == "raw" else ""
    return workdir / "eval" / f"{report['network']}{raw}-{report['num_samples']}"


def write(workdir: Path, report: Report) -> Path:
    """Writes <folder>/<step>.json, a line of its table.csv, and TensorBoard's eval/<folder>/*.

    A report of the same step, made before, is replaced.
    """
    place = folder(workdir, report)
    place.mkdir(parents=True, exist_ok=True)
    out = place / f"{report['step']:08d}.json"
    files.write_text(out, json.dumps(report, indent=2) + "\n")
    found = [files.read_json(path) for path in sorted(place.glob("[0-9]*.json"))]
    files.write_text(place / "table.csv", _table(found))
    scalars = {f"eval/{place.name}/{name}": value for name, value in means(report).items()}
    telemetry.write_evaluation(workdir, report["step"], scalars)
    return out


def write_correlations(workdir: Path, reports: Sequence[Report]) -> dict[str, float]:
    """Writes <folder>/correlations.json, `correlations` and the steps that they are over."""
    found = correlations(reports)
    text = {"steps": [one["step"] for one in reports], "spearman_with_m_global": found}
    path = folder(workdir, reports[0]) / "correlations.json"
    files.write_text(path, json.dumps(text, indent=2) + "\n")
    return found


def correlations(reports: Sequence[Report]) -> dict[str, float]:
    """Spearman's rank correlation of M_global with every metric, over checkpoints.

    Only those with a recorded M_global count; there is none of fewer than 3, nor of a metric that
    never changes.
    """
    known = [one for one in reports if one["m_global"] is not None]
    if len(known) < 3:
        return {}
    m_global = [one["m_global"] for one in known]
    columns = {name: [means(one)[name] for one in known] for name in means(known[0])}
    return {
        name: float(stats.spearmanr(m_global, values).statistic)
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


def _told(metric: Metric) -> str:
    spread = "" if metric["std"] is None else f" ± {metric['std']:.2g}"
    of_data = f" (data {metric['of_data']:.4g})" if "of_data" in metric else ""
    return f"{metric['mean']:.4g}{spread}{of_data}"


def _table(reports: Sequence[Report]) -> str:
    """CSV, a line for each report, with the means and standard deviations of its metrics."""
    lines: list[Mapping[str, Any]] = []
    for one in reports:
        line = {name: one[name] for name in _COLUMNS}
        line["seeds"] = " ".join(map(str, one["seeds"]))
        for name, of in one["metrics"].items():
            line[name] = of["mean"]
            if of["std"] is not None:
                line[f"{name}_std"] = of["std"]
        lines.append({**line, **{name: one[name] for name in _HASHES}})
    columns = dict.fromkeys(name for line in lines for name in line)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
