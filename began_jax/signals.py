"""Being asked to stop, by a scheduler or by Ctrl-C."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from began_jax import errors, processes


class Stopped(errors.UserError):
    """A signal asked the run to end and its state is saved."""

    def __init__(self, number: int, step: int):
        name = signal.Signals(number).name
        super().__init__(f"{name}: saved at step {step}; the same command resumes")
        self.exit_status = 128 + number  # as a shell reports a process ended by a signal


Stop = Callable[[], int | None]


@contextlib.contextmanager
def collect() -> Iterator[Stop]:
    """Within the block SIGTERM and SIGINT are only noted; what is yielded gives the one that came.

    The second of a kind acts as before, so that an impatient Ctrl-C still ends the process. Of
    several processes all are told of one that came to any, between the same two calls: call it as
    often in each.
    """
    if processes.are_several():
        with _handling({signal.SIGINT: _as_sigterm}):
            yield processes.asked_to_stop
        return
    received: list[int] = []
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[signal.Signals(number)])

    with _handling(dict.fromkeys(previous, note)):
        yield lambda: received[0] if received else None


@contextlib.contextmanager
def _handling(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _as_sigterm(number: int, frame: FrameType | None) -> None:
    """JAX, which tells the other processes, listens to SIGTERM alone."""
    signal.raise_signal(signal.SIGTERM)
