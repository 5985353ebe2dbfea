"""Work on many pictures side by side, in order, with bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# As the rules ask of the scheduler: more would not be ours to use.
MOST_THREADS = 8


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int = 256
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order, computed on all cores that we may use.

    Threads suffice: Pillow and hashlib release the interpreter's lock while they work. At most
    ``ahead`` results wait at a time.
    """
    pool = ThreadPoolExecutor(available_cores())
    try:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def available_cores() -> int:
    """Return the number of cores that this process may run on (a cluster may grant fewer)."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST_THREADS)
    return min(os.cpu_count() or 1, MOST_THREADS)
