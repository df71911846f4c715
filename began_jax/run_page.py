"""A run's own page: report.html in its folder, which opens anywhere and without network."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from began_jax import config as config_lib
from began_jax import files, health, pages, restoring, rollbacks, run_folder
from began_jax.schema import Config

_TEMPLATE = Path(__file__).with_suffix(".html.jinja")
_WIDTH, _HEIGHT = 320, 120  # of a curve, without its labels
_MOST_POINTS = 300
_MOST_GRIDS = 8
_WIDEST_GRID = 512  # pixels
_PANELS = (
    {"m_global": "M_global"},
    {"loss_real": "L(x)", "loss_fake": "L(G(z))"},
    {"k": "k"},
    {"sample_spread": "spread of the samples, over the data's"},
    {"learning_rate": "learning rate"},
    {"images_per_second": "images a second"},
)


class Curve(NamedTuple):
    """Over the images seen, as points of an SVG polyline in a box of _WIDTH by _HEIGHT."""

    label: str
    newest: str
    points: str


class Panel(NamedTuple):
    """Curves of one range."""

    curves: list[Curve]
    lowest: str
    highest: str


def write(workdir: Path, config: Config) -> None:
    """Makes the page anew of what the run's folder holds.

    Raises:
      UserError: a record cannot be read.
    """
    lines = restoring.lines(workdir)
    records = restoring.measured(lines)
    page = pages.template(_TEMPLATE).render(
        name=config.name,
        num_steps=config.train.num_steps,
        newest=records[-1] if records else None,
        size=(_WIDTH, _HEIGHT),
        panels=_panels(records),
        alarms=_alarms(lines),
        rollbacks=rollbacks.load(workdir),
        grids=_grids(workdir),
        settings=config_lib.flatten(config),
        starts=files.read_json(workdir / "provenance.json") or [],
    )
    files.write_text(workdir / "report.html", page)


def _panels(records: Sequence[dict[str, Any]]) -> list[Panel]:
    images = np.array([record["images"] for record in records], float)
    panels = []
    for labels in _PANELS:
        columns = {name: np.array([one[name] for one in records], float) for name in labels}
        values = np.concatenate([*columns.values()])
        values = values[np.isfinite(values)]
        if values.size:
            lowest, highest = float(values.min()), float(values.max())
            curves = [
                Curve(labels[name], f"{of[-1]:.3g}", _points(images, of, lowest, highest))
                for name, of in columns.items()
            ]
            panels.append(Panel(curves, f"{lowest:.3g}", f"{highest:.3g}"))
    return panels


def _points(images: np.ndarray, values: np.ndarray, lowest: float, highest: float) -> str:
    """Means of neighbours where there are more values than points."""
    finite = np.isfinite(values)
    num = min(_MOST_POINTS, int(finite.sum()))
    x, y = (
        [float(part.mean()) for part in np.array_split(array[finite], num)] if num else []
        for array in (images / images[-1], (values - lowest) / ((highest - lowest) or 1))
    )
    pairs = zip(x, y, strict=True)
    return " ".join(f"{_WIDTH * a:.1f},{_HEIGHT * (1 - b):.1f}" for a, b in pairs)


def _alarms(lines: Sequence[dict[str, Any]]) -> list[tuple[str, int, int, bool, str]]:
    """Each alarm's name, first and last step, whether it is still there, and what to try."""
    found: dict[str, list[int]] = {}
    for line in lines:
        for name in line.get("alarms", []):
            found.setdefault(name, []).append(line["step"])
    return [
        (
            name,
            steps[0],
            steps[-1],
            steps[-1] == lines[-1]["step"],
            health.ALARMS[name].remedy if name in health.ALARMS else "",
        )
        for name, steps in found.items()
    ]


def _grids(workdir: Path) -> list[tuple[int, str]]:
    """(images seen, data URI) of grids evenly spaced over the run, the newest among them."""
    paths = list(run_folder.sample_grids(workdir).values())
    places = np.linspace(0, len(paths) - 1, min(_MOST_GRIDS, len(paths))).round().astype(int)
    chosen = [paths[i] for i in places]
    made = [(int(path.stem), _uri(path, path.stat().st_mtime_ns)) for path in chosen]
    return [(images, uri) for images, uri in made if uri]


@functools.lru_cache(4 * _MOST_GRIDS)  # most are on the next page too
def _uri(path: Path, modified: int) -> str | None:
    """None where it is no picture any more."""
    return pages.picture(path, _WIDEST_GRID)
