"""Work on many pictures side by side, in order, with bounded memory."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# As the rules ask of the scheduler: more would not be ours to use.
MOST_THREADS = 8


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int = 64
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order, computed on all cores that we may use.

    Threads suffice where most of the work is Pillow's or hashlib's, which release the interpreter's
    lock. At most ``ahead`` results wait at a time.
    """
    yield from _in_order(
        ThreadPoolExecutor(min(available_cores(), MOST_THREADS)), function, items, ahead
    )


def in_order_by_processes(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """As :func:`in_order`, for small pieces of work in which the interpreter has its share.

    Args:
        function: a function of a module, or a partial of one.
        items: large enough that sending one and its result back hardly counts.
        ahead: results that wait at a time.
    """
    # A fork takes milliseconds; elsewhere than on Linux it is not safe.
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    cores = min(available_cores(), MOST_THREADS)
    pool = ProcessPoolExecutor(cores, context, _end_with, (os.getpid(),))
    yield from _in_order(pool, function, items, ahead)


def _in_order(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
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


def _end_with(parent: int) -> None:
    """Let this process end soon after its parent, also where that is killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=watch, daemon=True).start()


def available_cores() -> int:
    """Return the number of cores that this process may run on (a cluster may grant fewer)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
