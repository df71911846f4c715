"""Charts of runs as PNGs: curves over the images seen, and swept fields against metrics. Pure."""

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from launch import tables
from launch.run_folders import RunFolder, is_finite
from launch.tables import Group

_SIZE, _DPI = (5.4, 3.0), 170  # inches; about 900 pixels wide
_PANELS_WIDTH, _PANEL_HEIGHT, _PANELS_IN_A_ROW, _PANELS_DPI = 10.0, 2.6, 3, 100
_LOG_FROM = 50  # of the largest over the smallest value
_MOST_TICKS = 8
_DIVERSITY = ("sample_spread", "recall", "coverage", "ms_ssim")
_QUALITY = ("m_global", "fd_")

CURVES = {
    "m_global": "M_global",
    "loss_real": "L(x)",
    "k": "k",
    "images_per_second": "images per second",
}


class Line(NamedTuple):
    """Groups that differ in the swept field alone."""

    label: str
    points: list[tuple[float, list[RunFolder]]]  # ascending, the field's value and the runs there


def colours(num: int) -> list[str]:
    """So many colours as '#rrggbb', told apart as well as can be."""
    if num <= 10:
        return [to_hex(colour) for colour in mpl.colormaps["tab10"].colors[:num]]  # type: ignore[attr-defined]
    return [to_hex(mpl.colormaps["viridis"](i / (num - 1))) for i in range(num)]


def curves(groups: Sequence[Group], name: str) -> bytes | None:
    """A metric over the images seen: runs thin, the mean of each group thick; None: of no run."""
    figure, axes = _figure(CURVES[name])
    return _png(figure) if _draw_curves(axes, groups, name) else None


def curve_panels(groups: Sequence[Group], titles: Mapping[str, str]) -> bytes:
    """Curves as above, each in a panel of its own with a title."""
    figure, panels = _panels(len(titles), _PANEL_HEIGHT)
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        axes.set_title(title, fontsize=10, parse_math=False)
        _draw_curves(axes, groups, name)
    if len(groups) > 1:
        panels[0].legend(fontsize=7)
    return _png(figure)


def mean_series(drawn: Sequence[Mapping[float, float]]) -> dict[float, float]:
    """The mean at each number of images that all of the series have."""
    shared = [x for x in drawn[0] if all(x in one for one in drawn)] if drawn else []
    return {x: statistics.fmean(one[x] for one in drawn) for x in shared}


def swept(groups: Sequence[Group]) -> list[str]:
    """The fields that vary and are numbers throughout, gamma first."""
    found = [
        field
        for field in (groups[0].settings if groups else ())
        if all(_is_number(group.settings[field]) for group in groups)
    ]
    return sorted(found, key=lambda field: field != "gamma")


def swept_metrics(names: Sequence[str]) -> dict[str, list[str]]:
    """Of the metrics' names those that tell of diversity, and of quality."""

    def of(starts: tuple[str, ...]) -> list[str]:
        return [name for name in names if name.rpartition("/")[2].startswith(starts)]

    return {"diversity": of(_DIVERSITY), "quality": of(_QUALITY)}


def lines(groups: Sequence[Group], field: str) -> list[Line]:
    """The groups as lines over a field, one for each setting of the others."""
    found: dict[str, Line] = {}
    for group in groups:
        rest = {name: value for name, value in group.settings.items() if name != field}
        label = Group(rest, []).label
        x = float(group.settings[field])  # type: ignore[arg-type]
        found.setdefault(label, Line(label, [])).points.append((x, group.runs))
    return [Line(line.label, sorted(line.points, key=lambda p: p[0])) for line in found.values()]


def against(groups: Sequence[Group], field: str, metric: str, kind: str) -> bytes | None:
    """A metric over a field: runs as dots, means with standard deviations; None: of no run."""
    figure, axes = _figure(f"{metric} ({kind})")
    return _png(figure) if _draw_against(axes, groups, field, metric) else None


def against_panels(groups: Sequence[Group], field: str, titles: Mapping[str, str]) -> bytes:
    """Metrics over a field as above, each in a panel of its own with a title."""
    figure, panels = _panels(len(titles), _PANEL_HEIGHT)
    for axes, (metric, title) in zip(panels, titles.items(), strict=True):
        axes.set_title(title, fontsize=10, parse_math=False)
        _draw_against(axes, groups, field, metric)
    if len(lines(groups, field)) > 1:
        panels[0].legend(fontsize=7)
    return _png(figure)


def side_by_side_panels(groups: Sequence[Group], titles: Mapping[str, str]) -> bytes:
    """Metrics of groups, a row each: runs as dots, means with standard deviations as bars."""
    figure, panels = _panels(len(titles), 0.8 + 0.22 * len(groups), sharey=True)
    for axes, (metric, title) in zip(panels, titles.items(), strict=True):
        axes.set_title(title, fontsize=10, parse_math=False)
        _draw_side_by_side(axes, groups, metric)
    panels[0].set_yticks(range(len(groups)), labels=[_values(group) for group in groups])
    panels[0].set_ylim(len(groups) - 0.5, -0.5)  # the first on top
    return _png(figure)


def _draw_curves(axes: Axes, groups: Sequence[Group], name: str) -> bool:
    """Whether any run has the metric."""
    num_drawn = 0
    for group, colour in zip(groups, colours(len(groups)), strict=True):
        drawn = [series for run in group.runs if (series := _series(run, name))]
        num_drawn += len(drawn)
        if len(drawn) > 1:
            for series in drawn:
                axes.plot(list(series), list(series.values()), color=colour, lw=0.7, alpha=0.45)
        mean = mean_series(drawn)
        mark = "." if len(mean) < 10 else ""  # a line through one point cannot be seen
        axes.plot(
            *(list(mean), list(mean.values())),
            label=group.label,
            color=colour,
            lw=1.8,
            marker=mark,
        )
    axes.set_xlabel("images seen")
    axes.xaxis.set_major_formatter(lambda value, _: _short_number(value))
    return num_drawn > 0


def _draw_against(axes: Axes, groups: Sequence[Group], field: str, metric: str) -> bool:
    """Whether any run has the metric."""
    drawn = lines(groups, field)
    seen: set[float] = set()
    several = _several(groups)
    for line, colour in zip(drawn, colours(len(drawn)), strict=True):
        means = []
        for x, runs in line.points:
            known = _known(runs, metric, several)
            axes.plot([x] * len(known), known, ".", color=colour, alpha=0.6, ms=8)
            if known:
                means.append((x, *tables.mean_and_spread(known)))
        seen.update(x for x, _, _ in means)
        axes.errorbar(
            [x for x, _, _ in means],
            [mean for _, mean, _ in means],
            yerr=[spread or 0.0 for _, _, spread in means],
            label=line.label,
            color=colour,
            lw=1.5,
            capsize=3,
        )
    _scale(axes, sorted(seen))
    axes.set_xlabel(field, parse_math=False)
    return bool(seen)


def _draw_side_by_side(axes: Axes, groups: Sequence[Group], metric: str) -> None:
    several = _several(groups)
    for row, group in enumerate(groups):
        known = _known(group.runs, metric, several)
        if known:
            mean, spread = tables.mean_and_spread(known)
            axes.errorbar(mean, row, xerr=spread or 0.0, fmt="|", color="C0", lw=1.5, capsize=3)
        axes.plot(known, [row] * len(known), ".", color="C0", alpha=0.6, ms=7)
    axes.locator_params(axis="x", nbins=5)


def _several(groups: Sequence[Group]) -> bool:
    return tables.has_several_evaluations([run for group in groups for run in group.runs])


def _known(runs: Sequence[RunFolder], metric: str, several: bool) -> list[float]:
    values = [tables.metrics(run, several).get(metric) for run in runs]
    return [value for value in values if value is not None and is_finite(value)]


def _values(group: Group) -> str:
    return ", ".join(map(tables.text, group.settings.values()))


def _series(run: RunFolder, name: str) -> dict[float, float]:
    return {record["images"]: record[name] for record in run.records if is_finite(record.get(name))}


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=8)
    return figure, axes


def _panels(num: int, height: float, *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """So many axes in rows, `height` inches each."""
    rows = math.ceil(num / _PANELS_IN_A_ROW)
    figure = Figure(figsize=(_PANELS_WIDTH, rows * height), dpi=_PANELS_DPI, layout="constrained")
    made = list(figure.subplots(rows, _PANELS_IN_A_ROW, squeeze=False, sharey=sharey).flat)
    for i, axes in enumerate(made):
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)
        axes.set_visible(i < num)
    return figure, made[:num]


def _scale(axes: Axes, xs: Sequence[float]) -> None:
    if xs and xs[0] > 0 and xs[-1] / xs[0] >= _LOG_FROM:
        axes.set_xscale("log")
    if len(xs) <= _MOST_TICKS:
        axes.set_xticks(xs, labels=[f"{x:g}" for x in xs])
        axes.minorticks_off()


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _is_number(value: Any) -> bool:
    return is_finite(value) and not isinstance(value, bool)


def _short_number(value: float) -> str:
    """1500 as 1.5k."""
    if value == 0:
        return "0"
    power = min(max(math.floor(math.log10(abs(value)) / 3), 0), 3)
    return f"{value / 1000**power:g}{'kMG'[power - 1] if power else ''}"
