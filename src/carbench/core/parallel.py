"""Work on many images side by side, in order, with bounded memory."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from math import ceil, inf
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# As the rules ask of the scheduler: more would not be ours to use.
MAX_WORKERS = 8


def thread_map(
    function: Callable[[Item], Result], items: Iterable[Item], max_pending: int = 64
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order, computed on all cores that we may use.

    Threads suffice where most of the work is Pillow's or hashlib's, which release the interpreter's
    lock. At most ``max_pending`` results wait at a time.
    """
    yield from _map_in_order(
        ThreadPoolExecutor(min(available_cores(), MAX_WORKERS)), function, items, max_pending
    )


def process_map(
    function: Callable[[Item], Result], items: Iterable[Item], max_pending: int
) -> Iterator[Result]:
    """As :func:`thread_map`, for small pieces of work in which the interpreter has its share.

    Args:
        function: a function of a module, or a partial of one.
        items: large enough that sending one and its result back hardly counts.
        max_pending: results that wait at a time.
    """
    # A fork takes milliseconds; elsewhere than on Linux it is not safe.
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    cores = min(available_cores(), MAX_WORKERS)
    pool = ProcessPoolExecutor(cores, context, _init_worker, (os.getpid(),))
    yield from _map_in_order(pool, function, items, max_pending)


def _map_in_order(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], max_pending: int
) -> Iterator[Result]:
    try:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= max_pending:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def exit_with_parent(parent: int) -> None:
    """End this process within a second of its parent, even if the parent is killed.

    Args:
        parent: the parent's process id.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _init_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    exit_with_parent(parent)


def available_cores() -> int:
    """Return the number of cores that this process may use.

    Of those that it may run on (a cluster may grant fewer than there are), as many as its cgroup's
    CPU quota pays for: the limit of a container.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = cpu_quota()
    return max(ceil(quota), 1) if quota < cores else cores


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Return the cores that the cgroup's CPU quota amounts to; infinity if there is none.

    Args:
        root: where cgroups are mounted, version 2 or 1.
        own: lists the cgroups of this process.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return inf
    quotas = [inf]
    for _, controllers, path in lines:
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "cpu" if controllers else root
        folder = mount / path.lstrip("/")
        # Each level has a quota of its own. In a container the path may be that of the host.
        for level in {mount, folder, *folder.parents}:
            if level.is_relative_to(mount):
                quotas.append(_quota_of(level))
    return min(quotas)


def _quota_of(level: Path) -> float:
    try:
        if (level / "cpu.max").is_file():
            quota, period = (level / "cpu.max").read_text().split()
        else:
            quota = (level / "cpu.cfs_quota_us").read_text().strip()
            period = (level / "cpu.cfs_period_us").read_text().strip()
        return inf if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return inf
