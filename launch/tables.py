"""Tables of runs: what their configs do not share, their metrics, means over seeds. Pure."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from launch.points import short_name
from launch.run_folders import RunFolder, Scalar, is_finite

# A run is one of a group that differs in nothing else.
_OF_A_RUN = ("seed", "name")
_FINAL = ("loss_real", "k", "sample_spread")
_PARTS = "coverage_"  # of a mean that is itself told


class Group(NamedTuple):
    """Runs whose configs differ in the seed and the name alone."""

    settings: dict[str, Scalar]  # of the fields in which groups differ
    runs: list[RunFolder]

    @property
    def label(self) -> str:
        """Its settings in a line."""
        return ", ".join(f"{field} = {text(value)}" for field, value in self.settings.items())


def differing(runs: Sequence[RunFolder]) -> list[str]:
    """The fields that do not have the same value in all runs, in the configs' order."""
    fields = dict.fromkeys(field for run in runs for field in run.config)
    return [field for field in fields if len({_key(run.config.get(field)) for run in runs}) > 1]


def common(runs: Sequence[RunFolder]) -> dict[str, Scalar]:
    """What all runs share."""
    apart = differing(runs)
    config = runs[0].config if runs else {}
    return {field: value for field, value in config.items() if field not in apart}


def short(fields: Sequence[str], runs: Sequence[RunFolder]) -> dict[str, str]:
    """A short name of each field."""
    known = dict.fromkeys(field for run in runs for field in run.config)
    return {field: short_name(field, known) for field in fields}


def sorted_runs(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """By the fields in which they differ, the seed last, and by name."""
    fields = sorted(differing(runs), key=lambda field: field in _OF_A_RUN)
    return sorted(runs, key=lambda run: ([_order(run.config.get(f)) for f in fields], run.name))


def groups(runs: Sequence[RunFolder]) -> list[Group]:
    """The runs by what they share but for the seed and the name, in the order of their settings."""
    apart = [field for field in differing(runs) if field not in _OF_A_RUN]
    names = short(apart, runs)
    found: dict[tuple[object, ...], Group] = {}
    for run in sorted_runs(runs):
        key = tuple(_key(run.config.get(field)) for field in apart)
        settings = {names[field]: run.config.get(field) for field in apart}
        found.setdefault(key, Group(settings, [])).runs.append(run)
    return list(found.values())


def metrics(run: RunFolder, several_evaluations: bool = False) -> dict[str, float]:
    """A run's numbers by name; what is not known is not there.

    `several_evaluations`: their metrics are named with their folder, as those of one cannot be
    compared with those of another.
    """
    found: dict[str, float] = {}
    if run.records:
        last = run.records[-1]
        found["m_global"] = last["m_global"]
        finite = [one["m_global"] for one in run.records if is_finite(one["m_global"])]
        if finite:
            found["best_m_global"] = min(finite)
        found.update({name: last[name] for name in _FINAL if name in last})
        rates = [one["images_per_second"] for one in run.records if "images_per_second" in one]
        if rates:
            found["images_per_second"] = statistics.median(rates)
        found["steps"] = last["step"]
    for folder, values in run.evaluations.items():
        prefix = f"{folder}/" if several_evaluations else ""
        found[f"{prefix}eval_step"] = values["step"]
        found.update(
            {
                f"{prefix}{name}": value
                for name, value in values.items()
                if name != "step" and not name.startswith(_PARTS)
            }
        )
    return found


def metric_names(runs: Sequence[RunFolder]) -> list[str]:
    """The names of all metrics that some run has, in the order of the tables."""
    several = has_several_evaluations(runs)
    return list(dict.fromkeys(name for run in runs for name in metrics(run, several)))


def has_several_evaluations(runs: Sequence[RunFolder]) -> bool:
    """Whether the runs' evaluations are of more than one kind."""
    return len({folder for run in runs for folder in run.evaluations}) > 1


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and the standard deviation (of a sample: over n - 1; None of one value)."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return statistics.fmean(values), spread


def run_table(runs: Sequence[RunFolder]) -> list[list[str]]:
    """A line for each run, the first with the columns' names."""
    fields, names = differing(runs), metric_names(runs)
    several = has_several_evaluations(runs)
    columns = short(fields, runs)
    lines = [["run", *columns.values(), "alarms", *names]]
    for run in runs:
        values = metrics(run, several)
        cells = [text(values.get(name)) for name in names]
        if "steps" in values:
            cells[names.index("steps")] += f"/{text(run.config.get('train.num_steps'))}"
        settings = [text(run.config.get(field)) for field in fields]
        alarms = ", ".join(f"{name}×{num}" for name, num in sorted(run.alarms.items()))
        lines.append([run.name, *settings, alarms or "–", *cells])
    return lines


def group_table(found: Sequence[Group], names: Sequence[str]) -> list[list[str]]:
    """A line for each group: 'mean ± standard deviation' of these metrics over its runs."""
    several = has_several_evaluations([run for group in found for run in group.runs])
    settings = list(found[0].settings) if found else []
    lines = [[*settings, "n", *names]]
    for group in found:
        values = [metrics(run, several) for run in group.runs]
        known = {name: [one[name] for one in values if name in one] for name in names}
        cells = [_spread(known[name], len(values)) for name in names]
        shown = [text(group.settings[name]) for name in settings]
        lines.append([*shown, str(len(values)), *cells])
    return lines


def to_csv(runs: Sequence[RunFolder]) -> str:
    """A line for each run, numbers in full."""
    fields, names = differing(runs), metric_names(runs)
    several = has_several_evaluations(runs)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    told = ("alarms", "devices", "commit", "problems")
    header = ["run", *(f"config.{field}" for field in fields), *names, *told]
    writer.writerow(map(_cell, header))
    for run in runs:
        values: Mapping[str, float] = metrics(run, several)
        cells = [
            run.name,
            *(run.config.get(field) for field in fields),
            *(values.get(name) for name in names),
            " ".join(sorted(run.alarms)),
            run.origin.get("devices"),
            run.origin.get("commit"),
            "; ".join(run.problems),
        ]
        writer.writerow(map(_cell, cells))
    return out.getvalue()


def _cell(value: Any) -> Any:
    """What a spreadsheet would take for a formula is marked as text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def text(value: Scalar) -> str:
    """A value as a cell shows it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.4g}"
    return str(value)


def _spread(values: Sequence[float], num: int) -> str:
    finite = [value for value in values if is_finite(value)]
    if not finite:
        return "–"
    mean, spread = mean_and_spread(finite)
    if spread:  # both to the spread's second digit
        decimals = max(1 - math.floor(math.log10(spread)), 0)
        shown = f"{mean:.{decimals}f} ± {spread:.{decimals}f}"
    else:
        shown = text(mean) if spread is None else f"{text(mean)} ± 0"
    return shown if len(finite) == num else f"{shown} (of {len(finite)})"


def _key(value: Scalar) -> tuple[str, Scalar]:
    """1, 1.0 and True are equal in Python; the first two are so in a config."""
    return ("bool" if isinstance(value, bool) else "", value)


def _order(value: Scalar) -> tuple[bool, float, str]:
    is_text = not isinstance(value, int | float)
    return (is_text, 0.0 if is_text else float(value), str(value))  # type: ignore[arg-type]
