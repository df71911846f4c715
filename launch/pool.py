"""The jobs of a sweep on this machine, as many at once as fit its devices."""

import contextlib
import datetime
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from began_jax import errors, files, signals

_POLL_SECONDS = 0.1
_TAIL_BYTES = 4096

Slot = Mapping[str, str]  # what a place for one job adds to the environment


class Job(NamedTuple):
    """A command that writes into a folder; its output is appended to log.txt there."""

    name: str
    command: Sequence[str]
    folder: Path

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.folder / "log.txt"


class Outcome(NamedTuple):
    """What became of the jobs."""

    failed: list[str]  # a line for each
    stopped_by: int | None  # the signal that asked to stop


class _Running(NamedTuple):
    label: str
    job: Job
    process: subprocess.Popen[bytes]
    place: Slot
    started: float


def slots(jobs: int | None) -> list[Slot]:
    """A place for each job at a time: a GPU of its own where there are any, else `jobs` (or 1).

    Raises:
      UserError: more jobs than GPUs.
    """
    found = gpus()
    if jobs is not None and found and jobs > len(found):
        raise errors.UserError(
            f"--jobs={jobs}: each gets a GPU of its own, and there are {len(found)}"
        )
    if found:
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in found[:jobs]]
    return [{}] * (jobs or 1)


def gpus() -> list[str]:
    """The NVIDIA GPUs that programs started here may use, as CUDA_VISIBLE_DEVICES names them."""
    if os.environ.get("JAX_PLATFORMS", "") == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        # Of those behind one that there is not, CUDA shows none.
        stop = next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))
        return names[:stop]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]


def run(jobs: Sequence[Job], places: Sequence[Slot]) -> Outcome:
    """Runs every job, at most one in a place; those that fail are told, the others go on.

    After SIGTERM, SIGINT or the end of the terminal no more are started; those that run get one
    SIGTERM and are waited for.
    """
    waiting = [(f"[{i}/{len(jobs)}] {job.name}", job) for i, job in enumerate(jobs, 1)]
    free, running, failed, asked = list(places), list[_Running](), list[str](), False
    with signals.noted(*_stop_signals()) as received:
        try:
            while running or (waiting and not received):
                while waiting and free and not received:
                    label, job = waiting.pop(0)
                    try:
                        running.append(_start(label, job, free[0]))
                        del free[0]
                    except (errors.UserError, OSError) as error:
                        failed.append(f"{job.name}: cannot be started: {errors.one_line(error)}")
                if received and not asked:
                    asked = True
                    _ask_to_stop(received[0], running, len(waiting))
                time.sleep(_POLL_SECONDS)
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    free.append(one.place)
                    failed += _end(one, asked)
        finally:  # nothing is left to itself when this one is made to end
            for one in running:
                one.process.kill()
                one.process.wait()
    return Outcome(failed, received[0] if received else None)


def _stop_signals() -> list[int]:
    """SIGTERM, SIGINT and, unless nohup wished it away, the end of the terminal."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *(() if ignored else (signal.SIGHUP,))]


def _start(label: str, job: Job, place: Slot) -> _Running:
    job.folder.mkdir(parents=True, exist_ok=True)
    with files.open_to_append(job.log) as log:
        process = _popen(job.command, log, place)
    where = f", GPU {place['CUDA_VISIBLE_DEVICES']}" if place else ""
    say(f"{label}: started{where}")
    return _Running(label, job, process, place, time.monotonic())


def _popen(command: Sequence[str], log: IO[bytes], place: Slot) -> subprocess.Popen[bytes]:
    # In a process group of its own: Ctrl-C would reach it too, and a second signal, this one's,
    # could end it while it saves.
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **place},
        process_group=0,
    )


def _ask_to_stop(number: int, running: Sequence[_Running], num_waiting: int) -> None:
    name = signal.Signals(number).name
    say(f"{name}: {len(running)} running are asked to save, {num_waiting} are not started")
    for one in running:
        one.process.terminate()


def _end(one: _Running, stopping: bool) -> list[str]:
    """Tells how a process ended; if it failed, the line that says so at the end of all."""
    took = datetime.timedelta(seconds=round(time.monotonic() - one.started))
    status = one.process.returncode
    if status == 0:
        say(f"{one.label}: done in {took}")
        return []
    last = last_line(one.job.log)
    if stopping and status in (-signal.SIGTERM, 128 + signal.SIGTERM):
        say(f"{one.label}: stopped: {last}")
        return []
    ended = f"exit status {status}" if status > 0 else signal.Signals(-status).name
    say(f"{one.label}: failed after {took}: {ended}: {last}")
    return [f"{one.job.name}: {ended}: {last}"]


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    try:
        with log.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError as error:
        return errors.one_line(error)
    return next((line.strip() for line in reversed(lines) if line.strip()), "(no output)")


def say(text: str) -> None:
    """Prints a line to standard error; not to a terminal that is gone."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
