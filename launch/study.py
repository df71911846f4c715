"""Runs a study of configs/studies, or draws what its runs gave.

    python launch/study.py configs/studies/gamma.py --workdir=runs/studies/gamma \\
        [--budget=full] [--run=local|slurm] [--config.<field>=<value> ...]
    python launch/study.py configs/studies/gamma.py --workdir=runs/studies/gamma \\
        --draw --out=docs/studies/gamma

The first without --run prints the commands that train, and does nothing; with it trains what is
not finished, then evaluates what is not evaluated.
"""

import argparse
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python itself adds launch/ alone

from PIL import Image

from began_jax import errors, files
from launch import command_line, studies, study_results, sweep
from launch.points import Run
from launch.pool import Job, say
from launch.studies import Runs, Study
from launch.study_results import Results

_DRAWN = ("results.json", "results.md", "figure.png", "samples.png", "pictures.png")


@command_line.ending_in_one_line
def main(arguments: Sequence[str]) -> int:
    """Does what the command line asks for; returns the exit status."""
    options, fixed = _parse(arguments)
    workdir = Path(options.workdir)
    if options.draw:
        return _draw(options.study, workdir, Path(options.out))
    budget = options.budget or studies.BUDGETS[0]
    study, runs = studies.load(options.study, budget, fixed)
    every = [run for of_point in runs.values() for run in of_point]
    if options.run is None:
        sweep.print_commands(every, workdir)
        return 0
    studies.check_workdir(workdir)
    status = sweep.train(every, workdir, options)
    command = shlex.join(["python", "launch/study.py", *arguments])
    settings = {"study": options.study, "budget": budget, "fixed": fixed, "command": command}
    studies.save_settings(workdir, settings)
    if status >= 128:  # asked to stop
        return status
    return max(status, _look(study, runs, workdir, options))


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = command_line.Parser(
        __doc__, "%(prog)s FILE --workdir=DIR [options] [--config.<field>=<value> ...]"
    )
    add = parser.add_argument
    add("study", metavar="FILE", help="a study of configs/studies")
    add("--workdir", metavar="DIR", required=True, help="the runs' folders stand in it")
    add("--budget", choices=studies.BUDGETS, help="the runs' size; default: small")
    add("--draw", action="store_true", help="figure.png, samples.png, results.json, results.md")
    add("--out", metavar="DIR", help="where they go")
    command_line.add_run_options(parser)
    options, fixed = command_line.parse(parser, arguments)
    if options.draw and (fixed or options.run or options.budget):
        raise errors.UserError("--draw: with --workdir and --out alone; the runs tell the rest")
    if options.draw != bool(options.out):
        raise errors.UserError("--draw and --out=<folder>: each needs the other")
    return options, fixed


def _look(study: Study, runs: Runs, workdir: Path, options: argparse.Namespace) -> int:
    """Evaluates finished runs and makes their pictures, where that is not done; the exit status."""
    jobs, num_done, num_unfinished = [], 0, 0
    for of_point in runs.values():
        for run in of_point:
            if not sweep.is_finished(run, workdir / run.name):
                num_unfinished += 1
                continue
            for is_done, job in _looks(study, run, workdir):
                num_done += is_done
                jobs += [] if is_done else [job]
    if options.run == "slurm" and num_unfinished:
        say(f"unfinished: {num_unfinished}; when they are done, the same command evaluates them")
    return sweep.carry_out(jobs, workdir, options, num_before=num_done)


def _looks(study: Study, run: Run, workdir: Path) -> Iterator[tuple[bool, Job]]:
    """What is to be made of a finished run, each with whether that is done."""
    folder = workdir / run.name
    every = ["--every_checkpoint"] if study.every_checkpoint else []
    arguments = [f"--workdir={folder}", "--mode=evaluate", *every]
    is_evaluated = studies.is_evaluated(study, run, folder)
    yield is_evaluated, sweep.job(f"{run.name}: evaluation", folder, arguments)
    if run.config.seed == 0:
        for label, text in study.pictures.items():
            out = studies.picture(folder, run, text)
            arguments = [f"--workdir={folder}", *shlex.split(text), f"--out={out}"]
            yield out.exists(), sweep.job(f"{run.name}: {label}", folder, arguments)


def _draw(file: str, workdir: Path, out: Path) -> int:
    command_line.check_out(out, _DRAWN, is_own=studies.is_of_study(out / "results.json"))
    charts, sheets = _libraries()
    settings = studies.load_settings(workdir)
    if Path(settings["study"]).stem != Path(file).stem:
        raise errors.UserError(f"{workdir}: the study there is {settings['study']}")
    study, runs = studies.load(file, settings["budget"], settings["fixed"])
    results = study_results.read(study, runs, workdir)
    pictures = {
        "figure": _figure(results, charts),
        "samples": _samples(results, runs, sheets),
        "pictures": _pictures(study, runs, workdir, sheets),
    }
    drawn = {name: png for name, png in pictures.items() if png is not None}
    out.mkdir(parents=True, exist_ok=True)
    # First, as the other files may be replaced next to it alone.
    files.write_text(out / "results.json", study_results.to_json(results, settings))
    for name, png in drawn.items():
        with files.replacing(out / f"{name}.png") as temporary:
            temporary.write_bytes(png)
    page = study_results.to_markdown(results, settings, list(drawn))
    files.write_text(out / "results.md", page)
    for name in results.missing:
        say(f"{name}: left out, it is not finished")
    print(f"{out / 'results.md'}: {len(results.runs)} runs")
    return 0


def _libraries() -> tuple[ModuleType, ModuleType]:
    try:
        from launch import charts, sheets
    except ImportError as error:
        raise errors.UserError(
            f"launch/study.py --draw needs {error.name}: pip install -r requirements-launch.txt"
        ) from None
    return charts, sheets


def _figure(results: Results, charts: ModuleType) -> bytes | None:
    """None of a single point at its end: the table tells it all."""
    if results.study.every_checkpoint:
        return charts.curve_panels(*study_results.over_images(results))
    if len(results.points) == 1:
        return None
    titles = study_results.titles(results)
    if results.study.axis:
        return charts.against_panels(results.groups, next(iter(results.groups[0].settings)), titles)
    return charts.side_by_side_panels(results.groups, titles)


def _samples(results: Results, runs: Runs, sheets: ModuleType) -> bytes | None:
    """The newest grids of seed 0; what they show is generated."""
    grids = {
        point.label: Image.open(run.grid).convert("RGB")
        for point in results.points
        for run in point.group.runs
        if run.config["seed"] == 0 and run.grid is not None
    }
    config = next(iter(runs.values()))[0].config
    columns = math.ceil(math.sqrt(config.train.num_samples))
    return sheets.of_grids(grids, columns, config.model.resolution) if grids else None


def _pictures(study: Study, runs: Runs, workdir: Path, sheets: ModuleType) -> bytes | None:
    """The pictures of seed 0; none with images of data that others have rights to."""
    found = {}
    for point, of_point in runs.items():
        run = of_point[0]
        is_drawn = run.config.data.source == "synthetic_faces"
        for label, text in study.pictures.items():
            path = studies.picture(workdir / run.name, run, text)
            if path.exists() and (is_drawn or not studies.shows_data(text)):
                told = label if len(runs) == 1 else f"{point}: {label}"
                found[told] = Image.open(path).convert("RGB")
    return sheets.of_pictures(found) if found else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
