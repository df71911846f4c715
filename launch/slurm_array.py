"""The jobs of a sweep as one SLURM job array, by submitit.

A job that is preempted or reaches its time limit is put into the queue again and goes on from the
checkpoint that it saved.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from began_jax import errors
from launch.pool import Job, say

_POLL_SECONDS = 0.2
_MAX_TIMEOUTS = 1000  # a run may need many times the longest time that a partition grants
_WARNED_SECONDS = 120  # before the time limit
_LONGEST_SAVE_SECONDS = 90
_LONGEST_GRACE_SECONDS = 600
# SLURM's signals reach every process of a job's step. USR2, or what $SUBMITIT_PREEMPT_SIGNAL says,
# is submitit's and would end the run, SIGTERM one that does not listen yet.
_SHIELD = ("/bin/sh", "-c", 'trap "" TERM USR1 USR2; exec "$@"', "sh")


class Training:
    """A command as a submitit job that can be put into the queue again."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, command: Sequence[str], log: str) -> None:
        """Runs the command, its output appended to `log`.

        Raises:
          RuntimeError: it failed.
        """
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab", opener=_open_no_link) as file:
            self._child = subprocess.Popen(
                [*_SHIELD, *command], stdout=file, stderr=subprocess.STDOUT
            )
        # Not by `wait`: a signal that another thread gets would be handled at its end alone.
        while (status := self._child.poll()) is None:
            time.sleep(_POLL_SECONDS)
        if status == 128 + signal.SIGTERM:
            # SLURM's, which is about to end the job: one that ends by itself in its grace time
            # would not be put into the queue again.
            time.sleep(_LONGEST_GRACE_SECONDS)
        if status != 0:
            raise RuntimeError(f"exit status {status}, see {log}")

    def checkpoint(self, command: Sequence[str], log: str) -> Any:
        """Lets the command save and end; what is to be done when the job is started again."""
        from submitit.helpers import DelayedSubmission

        if self._child is not None and self._child.returncode is None:
            _end(self._child.pid)
        return DelayedSubmission(Training(), command, log)


def _open_no_link(path: str, flags: int) -> int:
    """Open as `files.open_to_append` does; the job's Python may not find that module."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _end(pid: int) -> None:
    """Asks a process to save and end; one that does not is killed.

    Not by Popen's methods, whose lock `poll` may hold when a signal's handler calls this.
    """
    deadline = time.monotonic() + _LONGEST_SAVE_SECONDS
    with contextlib.suppress(ChildProcessError):  # `poll` was about to say that it has ended
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            # Again and again, as it is not heard before the run can save, and ignored from then on.
            is_late = time.monotonic() > deadline
            os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
            time.sleep(_POLL_SECONDS)


def executor(folder: Path) -> Any:
    """submitit's way to SLURM; scripts, pickles and logs go to `folder`.

    Raises:
      UserError: no submitit, or no SLURM.
    """
    try:
        import submitit
    except ImportError:
        raise errors.UserError(
            "--run=slurm needs submitit: pip install -r requirements-launch.txt"
        ) from None
    try:
        return submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=_MAX_TIMEOUTS)
    except RuntimeError as error:  # where there is no srun
        raise errors.UserError(f"--run=slurm: {errors.one_line(error)}") from error


def submit(
    jobs: Sequence[Job],
    parameters: Mapping[str, Any],
    folder: Path,
    make_executor: Callable[[Path], Any] = executor,
) -> list[Any]:
    """Submits the jobs as an array and tells their ids and logs; returns submitit's jobs.

    Raises:
      UserError: no submitit, no SLURM, or SLURM refuses.
    """
    submitting = make_executor(folder)
    import cloudpickle  # submitit's own; not before it is known to be there

    # By value, as the jobs' Python is not started where this module is found.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        submitting.update_parameters(
            name="sweep", slurm_signal_delay_s=_WARNED_SECONDS, **parameters
        )
        commands = [list(job.command) for job in jobs]
        made = submitting.map_array(Training(), commands, [str(job.log) for job in jobs])
    except Exception as error:  # submitit's own kinds, and subprocess's
        raise errors.UserError(f"--run=slurm: {errors.one_line(error)}") from error
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    for job, one in zip(jobs, made, strict=True):
        say(f"job {one.job_id}: {job.name}, log {job.log}")
    say(f"{len(made)} jobs; what submitit and SLURM tell of them is in {folder}")
    return made
