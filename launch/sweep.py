"""Trains every point of a grid or a list, with several seeds, each in a folder of its own.

    python launch/sweep.py --config=configs/demo.py --grid config.began.gamma=0.3,0.5,0.7 \\
        --seeds=3 --workdir=runs/gamma [--config.train.num_steps=1000 ...] [--run=local|slurm]

Without --run it prints the commands, one for each run, and does nothing.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python itself adds launch/ alone

from began_jax import config as config_lib
from began_jax import errors, files, run_folder
from launch import command_line, points, pool, run_folders, slurm_array
from launch.points import Run
from launch.pool import Job, say

_MAIN = Path(__file__).resolve().parents[1] / "main.py"


@command_line.ending_in_one_line
def main(arguments: Sequence[str]) -> int:
    """Does what the command line asks for; returns the exit status."""
    options, fixed = _parse(arguments)
    runs = points.runs(options.config, fixed, options.list, options.grid, options.seeds)
    sweep = Path(options.workdir)
    if options.run is None:
        print_commands(runs, sweep)
        return 0
    return train(runs, sweep, options)


def print_commands(runs: Sequence[Run], sweep: Path) -> None:
    """The runs' commands, quoted for a shell."""
    for run in runs:
        print(shlex.join(["python", _main(), *_arguments(run, sweep)]))
    say(f"{len(runs)} runs, none started; --run=local or --run=slurm does")


def train(runs: Sequence[Run], sweep: Path, options: argparse.Namespace) -> int:
    """Trains the runs that are not finished in their folders of `sweep`; the exit status.

    Raises:
      UserError: a run's folder cannot be that run's (`run_folder.check`), or `carry_out`'s.
    """
    for run in runs:
        run_folder.check(sweep / run.name, run.config)
    jobs = []
    for run in runs:
        if is_finished(run, sweep / run.name):
            say(f"{run.name}: is finished already")
        else:
            jobs.append(job(run.name, sweep / run.name, _arguments(run, sweep)))
    return carry_out(jobs, sweep, options, num_before=len(runs) - len(jobs))


def job(name: str, folder: Path, arguments: Sequence[str]) -> Job:
    """main.py with these arguments, its log in the folder."""
    return Job(name, [sys.executable, str(_MAIN), *arguments], folder)


def carry_out(
    jobs: Sequence[Job], sweep: Path, options: argparse.Namespace, *, num_before: int
) -> int:
    """Runs jobs here or submits them, as the options say; the exit status.

    Raises:
      UserError: no place for them, or they are refused; nothing was started.
    """
    if options.run == "slurm":
        return _submit(jobs, sweep, options)
    return _run_here(jobs, sweep, options.jobs, num_before)


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = command_line.Parser(
        __doc__, "%(prog)s --config=FILE --workdir=DIR [options] [--config.<field>=<value> ...]"
    )
    add = parser.add_argument
    add("--config", metavar="FILE", required=True, help="a file of configs/")
    add("--workdir", metavar="DIR", required=True, help="the runs' folders stand in it")
    add("--grid", metavar="F=V,V,...", action="append", default=[], help="config.<field>=<values>")
    add("--list", metavar="'F=V F=V'", action="append", default=[], help="a point, in quotes")
    seeds = "config.seed is 0 to N - 1; default: 1"
    add("--seeds", metavar="N", type=command_line.positive, help=seeds)
    command_line.add_run_options(parser)
    return command_line.parse(parser, arguments)


def _main() -> str:
    """main.py as it is called from the working directory."""
    return _MAIN.name if Path.cwd() == _MAIN.parent else str(_MAIN)


def _arguments(run: Run, sweep: Path) -> list[str]:
    return [*run.arguments, f"--workdir={sweep / run.name}"]


def is_finished(run: Run, folder: Path) -> bool:
    """Whether the folder holds this very run and a whole checkpoint of its last step."""
    if not (folder / "config.json").exists():
        return False
    if config_lib.load(folder / "config.json") != run.config:
        return False  # a free setting is new: main.py has to see it
    steps = run_folders.checkpoint_steps(folder)
    return max(steps, default=0) >= run.config.train.num_steps


def _run_here(jobs: Sequence[Job], sweep: Path, at_once: int | None, num_before: int) -> int:
    places = pool.slots(at_once)
    try:
        sweep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.UserError(f"--workdir={sweep}: no folder can be there: {error}") from error
    with files.exclusive(sweep):
        outcome = pool.run(jobs, places)
    for line in outcome.failed:
        say(f"failed: {line}")
    if outcome.stopped_by is not None:
        say("the same command goes on")
        return 128 + outcome.stopped_by
    num_failed = len(outcome.failed)
    say(f"{num_before} finished before, {len(jobs) - num_failed} done, {num_failed} failed")
    return 1 if num_failed else 0


def _submit(jobs: Sequence[Job], sweep: Path, options: argparse.Namespace) -> int:
    if jobs:
        parameters: dict[str, Any] = {
            f"slurm_{name}": getattr(options, f"slurm_{name}") for name in command_line.SLURM
        }
        parameters["slurm_array_parallelism"] = options.jobs or len(jobs)
        slurm_array.submit(jobs, parameters, sweep / "slurm")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
