"""Progress of work that takes a while, and lines above it: a bar on a terminal, else lines."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 30.0


@contextlib.contextmanager
def bar(total: int, what: str, unit: str) -> Iterator[Callable[[int], object]]:
    """Yields `advance(num)`; without a terminal there are lines: first, now and then, and last."""
    if sys.stderr.isatty():
        with tqdm(total=total, desc=what, unit=f" {unit}", leave=None) as shown:
            yield shown.update
        return
    print(f"{what}: {total} {unit}", file=sys.stderr, flush=True)
    start = last = time.monotonic()
    done = 0

    def tell() -> None:
        rate = done / max(time.monotonic() - start, 1e-9)
        print(f"{what}: {done}/{total}, {rate:.0f} {unit}/s", file=sys.stderr, flush=True)

    def advance(num: int) -> None:
        nonlocal done, last
        done += num
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            tell()

    yield advance
    tell()


def say(text: str) -> None:
    """Prints a line to standard error, above the bar if there is one."""
    tqdm.write(text, file=sys.stderr)
