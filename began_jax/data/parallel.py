"""Work on many items by threads, whose results come in the items' order."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_READ_AHEAD = 4  # items per thread

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Result]]:
    """Each item and its result; the threads run a bounded number of items ahead."""
    num_threads = os.cpu_count() or 1
    pending: collections.deque[tuple[Item, concurrent.futures.Future[Result]]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        for item in items:
            pending.append((item, pool.submit(function, item)))
            if len(pending) >= _READ_AHEAD * num_threads:
                first, future = pending.popleft()
                yield first, future.result()
        for first, future in pending:
            yield first, future.result()
