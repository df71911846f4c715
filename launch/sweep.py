"""Trains every point of a grid or a list, with several seeds, each in a folder of its own.

    python launch/sweep.py --config=configs/demo.py --grid config.began.gamma=0.3,0.5,0.7 \\
        --seeds 3 --workdir=runs/gamma [--config.train.num_steps=1000 ...] [--run=local|slurm]

Without --run it prints the commands, one for each run, and does nothing.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python itself adds launch/ alone

from began_jax import config as config_lib
from began_jax import errors, files
from launch import points, pool, slurm_array
from launch.points import Run
from launch.pool import Job, say

_MAIN = Path(__file__).resolve().parents[1] / "main.py"
_SLURM = ("time", "partition", "gpus_per_node", "cpus_per_task", "mem")


def main(arguments: Sequence[str]) -> int:
    """Does what the command line asks for; returns the exit status."""
    try:
        options, fixed = _parse(arguments)
        runs = points.runs(options.config, fixed, options.list, options.grid, options.seeds)
        sweep = Path(options.workdir)
        if options.run is None:
            for run in runs:
                print(shlex.join(["python", _main(), *_arguments(run, sweep)]))
            return 0
        unfinished = _unfinished(runs, sweep)
        if options.run == "slurm":
            return _submit(unfinished, sweep, options)
        return _run_here(unfinished, sweep, options.jobs, len(runs) - len(unfinished))
    except errors.UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except OSError as error:  # a folder that may not be written
        print(errors.one_line(error), file=sys.stderr)
        return errors.UserError.exit_status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of the usage and a line."""
        raise errors.UserError(f"{message}; see --help")


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the `--config.<field>=<value>` that every run gets."""
    parser = _Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="%(prog)s --config=FILE --workdir=DIR [options] [--config.<field>=<value> ...]",
    )
    add = parser.add_argument
    add("--config", metavar="FILE", required=True, help="a file of configs/")
    add("--workdir", metavar="DIR", required=True, help="the runs' folders stand in it")
    add("--grid", metavar="F=V,V,...", action="append", default=[], help="config.<field>=<values>")
    add("--list", metavar="'F=V F=V'", action="append", default=[], help="a point, in quotes")
    add("--seeds", metavar="N", type=_positive, help="config.seed is 0 to N - 1; default: 1")
    add("--run", choices=["local", "slurm"], help="on this machine, or as a job array")
    add("--jobs", metavar="N", type=_positive, help="so many runs at a time")
    add("--slurm_time", metavar="MINUTES", type=_positive, help="of a job, before it is requeued")
    add("--slurm_partition", metavar="NAME")
    add("--slurm_gpus_per_node", metavar="N", type=_positive)
    add("--slurm_cpus_per_task", metavar="N", type=_positive)
    add("--slurm_mem", metavar="SIZE", help="as in 32GB")
    options, rest = parser.parse_known_args(arguments)
    for argument in rest:
        if not re.match(r"--(no)?config\.", argument):
            unknown = "no such flag" if argument.startswith("-") else "flags alone are expected"
            raise errors.UserError(f"{argument}: {unknown}; see --help")
    if not options.workdir:
        raise errors.UserError("--workdir: a path is needed")
    if options.jobs is not None and options.run is None:
        raise errors.UserError("--jobs: it needs --run=local or --run=slurm")
    for name in _SLURM:
        if getattr(options, f"slurm_{name}") is not None and options.run != "slurm":
            raise errors.UserError(f"--slurm_{name}: it needs --run=slurm")
    if options.run == "slurm" and (options.slurm_time or 0) < 5:  # two are kept for the save
        raise errors.UserError("--slurm_time=<minutes> is needed, 5 or more")
    return options, rest


def _positive(text: str) -> int:
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text}: a number, 1 or more, is needed")
    return int(text)


def _main() -> str:
    """main.py as it is called from the working directory."""
    return _MAIN.name if Path.cwd() == _MAIN.parent else str(_MAIN)


def _arguments(run: Run, sweep: Path) -> list[str]:
    return [*run.arguments, f"--workdir={sweep / run.name}"]


def _unfinished(runs: Sequence[Run], sweep: Path) -> list[Job]:
    """What is left to do.

    Raises:
      UserError: a run's folder holds a run of another config.
    """
    for run in runs:
        _check_folder(run, sweep / run.name)
    jobs = []
    for run in runs:
        folder = sweep / run.name
        if is_finished(run, folder):
            say(f"{run.name}: is finished already")
        else:
            command = [sys.executable, str(_MAIN), *_arguments(run, sweep)]
            jobs.append(Job(run.name, command, folder))
    return jobs


def _check_folder(run: Run, folder: Path) -> None:
    if (folder / "config.json").exists():
        saved = config_lib.load(folder / "config.json")
        differing = config_lib.differing_fields(saved, run.config)
        if differing:
            told = ", ".join(f"{name} {old!r} there, {new!r} here" for name, old, new in differing)
            raise errors.UserError(f"{folder}: it holds a run of another config: {told}")


def is_finished(run: Run, folder: Path) -> bool:
    """Whether the folder holds this very run and a whole checkpoint of its last step."""
    if not (folder / "config.json").exists():
        return False
    if config_lib.load(folder / "config.json") != run.config:
        return False  # a free setting is new: main.py has to see it
    steps = [
        int(path.name)
        for path in (folder / "checkpoints").glob("[0-9]*")
        # Orbax renames a checkpoint to its step when all of it is written.
        if path.name.isdecimal() and (path / "_CHECKPOINT_METADATA").is_file()
    ]
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
            f"slurm_{name}": getattr(options, f"slurm_{name}") for name in _SLURM
        }
        parameters["slurm_array_parallelism"] = options.jobs or len(jobs)
        slurm_array.submit(jobs, parameters, sweep / "slurm")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
