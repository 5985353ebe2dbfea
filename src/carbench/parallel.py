"""Work on many pictures side by side, in order, with bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# As the rules ask of the scheduler: more would not be ours to use.
MOST_THREADS = 8


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], chunk: int = 256
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order, computed on all cores that we may use.

    Threads suffice: Pillow and hashlib release the interpreter's lock while they work. At most
    ``chunk`` results wait at a time.
    """
    waiting = iter(items)
    with ThreadPoolExecutor(available_cores()) as pool:
        while batch := list(islice(waiting, chunk)):
            yield from pool.map(function, batch)


def available_cores() -> int:
    """Return the number of cores that this process may run on (a cluster may grant fewer)."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST_THREADS)
    return min(os.cpu_count() or 1, MOST_THREADS)
