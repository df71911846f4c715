"""What a study's runs gave: by points, as JSON and as a Markdown page."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from began_jax import errors
from launch import run_folders, studies, sweep, tables
from launch.run_folders import RunFolder
from launch.studies import Runs, Study
from launch.tables import Group

# What is drawn, by the names' starts, and which way is better. Diversity comes first.
_SHOWN = {
    "coverage": "↑",
    "recall": "↑",
    "ms_ssim": "",
    "sample_spread": "",
    "fd_": "↓",
    "precision": "↑",
    "reconstruction_error": "↓",
    "m_global": "",  # compares neither networks nor objectives
    "k": "",
}
_EVALUATION = "study"


class Point(NamedTuple):
    """The finished runs of a point."""

    label: str
    settings: str
    group: Group  # its settings are what a figure tells points apart by
    reports: list[dict[int, dict[str, Any]]]  # by step, of each run


class Results(NamedTuple):
    """What is known of a study."""

    study: Study
    points: list[Point]
    missing: list[str]  # runs that are not finished

    @property
    def groups(self) -> list[Group]:
        """The points' runs."""
        return [point.group for point in self.points]

    @property
    def runs(self) -> list[RunFolder]:
        """All runs."""
        return [run for group in self.groups for run in group.runs]


def read(study: Study, runs: Runs, workdir: Path) -> Results:
    """The finished runs; a point without any is left out.

    Raises:
      UserError: no run is finished, or evaluations that cannot be compared.
    """
    points, missing = [], []
    for label, of_point in runs.items():
        finished = [run for run in of_point if sweep.is_finished(run, workdir / run.name)]
        missing += [run.name for run in of_point if run not in finished]
        if finished:
            by_steps = [studies.reports(workdir / run.name, run.config.eval) for run in finished]
            folders = [
                _with_report(run_folders.read(workdir / run.name, run.name), by_step)
                for run, by_step in zip(finished, by_steps, strict=True)
            ]
            group = Group(_settings(study, label, folders[0]), folders)
            points.append(Point(label, study.points[label], group, by_steps))
    if not points:
        raise errors.UserError(f"{workdir}: none of the study's runs is finished")
    _check_comparable(points, workdir)
    return Results(study, points, missing)


def titles(results: Results) -> dict[str, str]:
    """The metrics drawn, in order, with a heading of each: which way is better, the data's own."""
    own = _of_data(results)
    found = {}
    for name in tables.metric_names(results.runs):
        if start := _start(name):
            of_data = f" (data {own[name]:.3g})" if name in own else ""
            found[name] = f"{name} {_SHOWN[start]}".strip() + of_data
    return dict(sorted(found.items(), key=lambda item: list(_SHOWN).index(_start(item[0]))))


def over_images(results: Results) -> tuple[list[Group], dict[str, str]]:
    """The groups with every evaluation among their records, and the headings of what is drawn."""
    groups = []
    for point in results.points:
        runs = [
            dataclasses.replace(run, records=[*run.records, *map(_record, by_step.values())])
            for run, by_step in zip(point.group.runs, point.reports, strict=True)
        ]
        groups.append(Group(point.group.settings, runs))
    first = {"m_global": "M_global", "loss_real": "L(x)", "k": "k"}
    others = titles(results)
    others.pop("reconstruction_error", None)  # L(x) again
    return groups, {**first, **{name: others[name] for name in others if name not in first}}


def to_json(results: Results, settings: Mapping[str, Any]) -> str:
    """Every number: of each point by metric the mean and the standard deviation over seeds."""
    found = {
        **settings,
        "question": results.study.question,
        "commits": _origins(results, "commit"),
        "devices": _origins(results, "devices"),
        "machines": _origins(results, "machine"),
        "missing": results.missing,
        "evaluation": _evaluation(results),
        "of_data": _of_data(results),
        "points": [_point(point, results.study) for point in results.points],
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def to_markdown(results: Results, settings: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """A page: the question, the command, a table with a row for each point, the pictures."""
    names = titles(results)
    header, *rows = tables.group_table(results.groups, list(names))
    settings_columns = header[: header.index("n") + 1]
    evaluation = _evaluation(results)
    told = ", ".join(f"{name} {value}" for name, value in evaluation.items()) or "none"
    lines = [
        f"# {Path(settings['study']).stem}",
        "",
        results.study.question,
        "",
        f"    {settings['command']}",
        "",
        f"Budget {settings['budget']}; commit {', '.join(_origins(results, 'commit'))}; "
        f"{', '.join(_origins(results, 'devices'))}; {'; '.join(_origins(results, 'machine'))}; "
        f"evaluation: {told}. "
        "Mean ± standard deviation over the n seeds of training.",
        "",
        *(
            _row(row)
            for row in ([*settings_columns, *names.values()], ["---"] * len(header), *rows)
        ),
        "",
    ]
    if results.missing:
        lines += [f"Not finished: {', '.join(results.missing)}.", ""]
    lines += [f"![{name}]({name}.png)\n" for name in pictures]
    return "\n".join(lines)


def _settings(study: Study, label: str, run: RunFolder) -> dict[str, Any]:
    fields = [field for field in (study.axis, study.line) if field]
    if not fields:
        return {"point": label}
    return {short: run.config[field] for field, short in tables.short(fields, [run]).items()}


def _with_report(run: RunFolder, by_step: Mapping[int, dict[str, Any]]) -> RunFolder:
    """With the newest of the study's reports as its only evaluation, if there is any."""
    if not by_step:
        return dataclasses.replace(run, evaluations={})
    newest = by_step[max(by_step)]
    means = {name: metric["mean"] for name, metric in newest["metrics"].items()}
    return dataclasses.replace(run, evaluations={_EVALUATION: {"step": newest["step"], **means}})


def _check_comparable(points: Sequence[Point], workdir: Path) -> None:
    kinds = {
        (report["reference"], (report["regressor"] or {}).get("sha256"))
        for report in _all_reports(points)
    }
    if len(kinds) > 1:
        raise errors.UserError(
            f"{workdir}: its evaluations compare with other images or by another regressor"
        )


def _all_reports(points: Sequence[Point]) -> list[dict[str, Any]]:
    return [report for point in points for by_step in point.reports for report in by_step.values()]


def _of_data(results: Results) -> dict[str, float]:
    """The data's own value of each metric that has one."""
    return {
        name: metric["of_data"]
        for report in _all_reports(results.points)
        for name, metric in report["metrics"].items()
        if "of_data" in metric
    }


def _start(name: str) -> str:
    """Which of `_SHOWN` a metric is, '' if none."""
    fits = (
        start for start in _SHOWN if name == start or (start[-1] == "_" and name.startswith(start))
    )
    return next(fits, "")


def _record(report: Mapping[str, Any]) -> dict[str, float]:
    means = {name: metric["mean"] for name, metric in report["metrics"].items()}
    return {"step": report["step"], "images": report["images"], **means}


def _origins(results: Results, what: str) -> list[str]:
    return sorted({str(run.origin.get(what)) for run in results.runs})


def _evaluation(results: Results) -> dict[str, Any]:
    """How the checkpoints were evaluated."""
    every = _all_reports(results.points)
    if not every:
        return {}
    first = every[0]
    return {name: first[name] for name in ("network", "num_samples", "num_reference", "seeds")}


def _point(point: Point, study: Study) -> dict[str, Any]:
    by_run = {run.name: tables.metrics(run) for run in point.group.runs}
    return {
        "label": point.label,
        "settings": point.settings,
        "num_seeds": len(by_run),
        "metrics": _summary(list(by_run.values())),
        "runs": {
            run.name: {"origin": run.origin, "alarms": run.alarms, "metrics": by_run[run.name]}
            for run in point.group.runs
        },
        **(_over_run(point) if study.every_checkpoint else {}),
    }


def _over_run(point: Point) -> dict[str, Any]:
    """The evaluations of each step that all runs have one of, and each run's rank correlations."""
    from began_jax import reports  # here, as JAX takes a second to import

    steps = set.intersection(*(set(by_step) for by_step in point.reports))

    def record(report: Mapping[str, Any]) -> dict[str, float]:
        recorded = report["m_global"]
        return _record(report) | ({} if recorded is None else {"m_global": recorded})

    return {
        "checkpoints": [
            {"step": step, "metrics": _summary([record(of[step]) for of in point.reports])}
            for step in sorted(steps)
        ],
        "correlations": [
            reports.correlations([by_step[step] for step in sorted(by_step)])
            for by_step in point.reports
        ],
    }


def _summary(values: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """By metric that all have, the mean, the standard deviation and the values."""
    shared = [name for name in values[0] if all(name in one for one in values)]
    found = {}
    for name in shared:
        mean, spread = tables.mean_and_spread([one[name] for one in values])
        found[name] = {"mean": mean, "std": spread, "values": [one[name] for one in values]}
    return found


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
