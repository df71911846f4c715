"""What the launchers' command lines share."""

import argparse
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from began_jax import errors

SLURM = ("time", "partition", "gpus_per_node", "cpus_per_task", "mem")

Main = Callable[[Sequence[str]], int]


def ending_in_one_line(main: Main) -> Main:
    """`main`, with one line and a status for what a user can put right (2) and for Ctrl-C (130)."""

    @functools.wraps(main)
    def told(arguments: Sequence[str]) -> int:
        try:
            return main(arguments)
        except errors.UserError as error:
            print(error, file=sys.stderr)
            return error.exit_status
        except OSError as error:  # a folder that may not be read or written
            print(errors.one_line(error), file=sys.stderr)
            return errors.UserError.exit_status
        except KeyboardInterrupt:  # where runs are under way it is a second one, which kills them
            print("interrupted", file=sys.stderr)
            return 130

    return told


class Parser(argparse.ArgumentParser):
    """One that takes its description from a module's docstring as it stands."""

    def __init__(self, description: str | None, usage: str | None = None) -> None:
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            usage=usage,
        )

    def error(self, message: str) -> NoReturn:
        """One line instead of the usage and a line."""
        raise errors.UserError(f"{message}; see --help")


def add_run_options(parser: Parser) -> None:
    """Where runs are made, and how many at a time."""
    add = parser.add_argument
    add("--run", choices=["local", "slurm"], help="on this machine, or as a job array")
    add("--jobs", metavar="N", type=positive, help="so many runs at a time")
    add("--slurm_time", metavar="MINUTES", type=positive, help="of a job, before it is requeued")
    add("--slurm_partition", metavar="NAME")
    add("--slurm_gpus_per_node", metavar="N", type=positive)
    add("--slurm_cpus_per_task", metavar="N", type=positive)
    add("--slurm_mem", metavar="SIZE", help="as in 32GB")


def parse(parser: Parser, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the `--config.<field>=<value>` that every run gets.

    Raises:
      UserError: an unknown flag, or options that do not go together.
    """
    options, rest = parser.parse_known_args(arguments)
    for argument in rest:
        if not re.match(r"--(no)?config\.", argument):
            unknown = "no such flag" if argument.startswith("-") else "flags alone are expected"
            raise errors.UserError(f"{argument}: {unknown}; see --help")
    if not options.workdir:
        raise errors.UserError("--workdir: a path is needed")
    if options.jobs is not None and options.run is None:
        raise errors.UserError("--jobs: it needs --run=local or --run=slurm")
    for name in SLURM:
        if getattr(options, f"slurm_{name}") is not None and options.run != "slurm":
            raise errors.UserError(f"--slurm_{name}: it needs --run=slurm")
    if options.run == "slurm" and (options.slurm_time or 0) < 5:  # two are kept for the save
        raise errors.UserError("--slurm_time=<minutes> is needed, 5 or more")
    return options, rest


def check_out(out: Path, names: Iterable[str], is_own: bool) -> None:
    """Raise UserError if one of `names` is in `out` and is not the command's own."""
    found = [name for name in names if os.path.lexists(out / name)]
    if found and not is_own:
        raise errors.UserError(
            f"--out={out}: holds {found[0]}, which this command did not write. "
            "Choose another --out."
        )


def positive(text: str) -> int:
    """A number of 1 or more."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text}: a number, 1 or more, is needed")
    return int(text)
