"""Compares runs: one self-contained page and a CSV of any number of run folders.

python launch/report.py runs/gamma [more folders ...] --out=report
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python itself adds launch/ alone

from began_jax import errors, files, pages
from launch import command_line, run_folders, tables
from launch.run_folders import RunFolder
from launch.tables import Group

_TEMPLATE = Path(__file__).with_suffix(".html.jinja")
_TITLE = "BEGAN runs"
_WIDEST_GRID = 1024  # pixels


class Picture(NamedTuple):
    """An image within the page."""

    uri: str
    caption: str


@command_line.ending_in_one_line
def main(arguments: Sequence[str]) -> int:
    """Does what the command line asks for; returns the exit status."""
    options = _parse(arguments)
    out = Path(options.out)
    command_line.check_out(out, ("report.html", "runs.csv"), is_own=_is_report(out))
    runs, problems = run_folders.find([Path(path) for path in options.paths])
    page, table, told = make(runs, problems)
    out.mkdir(parents=True, exist_ok=True)
    files.write_text(out / "report.html", page)
    files.write_text(out / "runs.csv", table)
    for name, reason in told:
        print(f"{name}: {reason}", file=sys.stderr)
    print(f"{out / 'report.html'} and runs.csv: {_counted(len(runs), 'run')}")
    return 0


def make(
    runs: Sequence[RunFolder], problems: Sequence[tuple[str, str]]
) -> tuple[str, str, list[tuple[str, str]]]:
    """The page, the CSV, and (name, reason) of all that cannot be read.

    Raises:
      UserError: matplotlib is not installed.
    """
    charts = _charts()
    runs = tables.sorted_runs(runs)
    groups = tables.groups(runs)
    unreadable = list(problems)
    grids = [picture for run in runs if (picture := _grid(run, unreadable))]
    page = pages.template(_TEMPLATE).render(
        title=_TITLE,
        summary=f"{_counted(len(runs), 'run')} in {_counted(len(groups), 'group')}.",
        origins=_origins(runs),
        problems=unreadable,
        runs=runs,
        group_table=tables.group_table(groups, tables.metric_names(runs)),
        run_table=tables.run_table(runs),
        common=[(name, tables.text(value)) for name, value in tables.common(runs).items()],
        curve_legend=_legend([f"{_label(g)} (n = {len(g.runs)})" for g in groups], charts),
        curves=_pictures({name: charts.curves(groups, name) for name in charts.CURVES}),
        sweeps=[_sweep(groups, field, charts) for field in charts.swept(groups)],
        grids=grids,
    )
    return page, tables.to_csv(runs), unreadable


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_line.Parser(__doc__)
    parser.add_argument(
        "paths", metavar="DIR", nargs="+", help="run folders, or folders above them"
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="gets report.html and runs.csv")
    return parser.parse_args(arguments)


def _is_report(out: Path) -> bool:
    """Return whether an earlier call wrote the folder."""
    try:
        page = (out / "report.html").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return f"<title>{_TITLE}</title>" in page


def _charts() -> ModuleType:
    try:
        from launch import charts
    except ImportError as error:
        raise errors.UserError(
            f"launch/report.py needs {error.name}: pip install -r requirements-launch.txt"
        ) from None
    return charts


def _counted(num: int, what: str) -> str:
    return f"{num} {what}{'' if num == 1 else 's'}"


def _label(group: Group) -> str:
    return group.label or "all runs"


def _origins(runs: Sequence[RunFolder]) -> list[tuple[Any, Any, int]]:
    """Each device and commit that runs were computed with, and how many."""
    found = Counter((run.origin.get("devices"), run.origin.get("commit")) for run in runs)
    return [(devices, commit, num) for (devices, commit), num in found.items()]


def _legend(labels: Sequence[str], charts: ModuleType) -> list[tuple[str, str]]:
    return list(zip(charts.colours(len(labels)), labels, strict=True))


def _pictures(pngs: dict[str, bytes | None]) -> list[Picture]:
    found = {caption: png for caption, png in pngs.items() if png is not None}
    return [Picture(pages.uri(png, "png"), caption) for caption, png in found.items()]


def _sweep(groups: Sequence[Group], field: str, charts: ModuleType) -> dict[str, Any]:
    names = tables.metric_names([run for group in groups for run in group.runs])
    pngs = {
        f"{name} ({kind})": charts.against(groups, field, name, kind)
        for kind, of in charts.swept_metrics(names).items()
        for name in of
    }
    return {
        "field": field,
        "pictures": _pictures(pngs),
        "legend": _legend([line.label for line in charts.lines(groups, field)], charts),
    }


def _grid(run: RunFolder, problems: list[tuple[str, str]]) -> Picture | None:
    if run.grid is None:
        return None
    uri = pages.picture(run.grid, _WIDEST_GRID, lossless=True)
    if uri is None:
        problems.append((run.name, f"samples/{run.grid.name}: cannot be read"))
        return None
    return Picture(uri, f"{run.name}, {int(run.grid.stem):,} images seen")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
