"""Being asked to stop, by a scheduler or by Ctrl-C."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from began_jax import errors


class Stopped(errors.UserError):
    """A signal asked the run to end and its state is saved."""

    def __init__(self, number: int, step: int):
        name = signal.Signals(number).name
        super().__init__(f"{name}: saved at step {step}; the same command resumes")
        self.exit_status = 128 + number  # as a shell reports a process ended by a signal


@contextlib.contextmanager
def collect() -> Iterator[list[int]]:
    """Within the block SIGTERM and SIGINT only append their number to the yielded list.

    The second of a kind acts as before, so that an impatient Ctrl-C still ends the process.
    """
    received: list[int] = []
    numbers: tuple[int, ...] = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.getsignal(number) for number in numbers}

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, handle)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
