"""Being asked to stop, by a scheduler or by Ctrl-C."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from began_jax import errors


class Stopped(errors.UserError):
    """A signal asked the run to end and its state is saved."""

    def __init__(self, number: int, step: int):
        name = signal.Signals(number).name
        super().__init__(f"{name}: saved at step {step}; the same command resumes")
        self.exit_status = 128 + number  # as a shell reports a process ended by a signal


Stop = Callable[[], int | None]


@contextlib.contextmanager
def noted(*numbers: int, then: Callable[[int], None] = lambda number: None) -> Iterator[list[int]]:
    """Within the block these signals are only noted, in what is yielded, and given to `then`.

    A second SIGINT acts as before, so that an impatient Ctrl-C still ends the process.
    """
    received: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, before)
        then(number)

    previous = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def collect() -> Iterator[Stop]:
    """Within the block SIGTERM and SIGINT are only noted; what is yielded gives the first of them.

    A second SIGTERM does nothing: schedulers send it more than once, while the run saves. Of
    several processes all are told of a signal that came to any, between the same two calls: call it
    as often in each.
    """
    # Here, as JAX takes a second to import, which launch/ need not wait for.
    from began_jax import processes

    if processes.are_several():
        # JAX, which tells the others, listens to SIGTERM alone, however often.
        with noted(signal.SIGINT, then=lambda _: signal.raise_signal(signal.SIGTERM)):
            yield processes.asked_to_stop
    else:
        with noted(signal.SIGINT, signal.SIGTERM) as received:
            yield lambda: received[0] if received else None
