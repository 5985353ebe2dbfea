"""Parallel map with ordered results and bounded memory; available CPU cores."""

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

# The number of threads that the rules request from the scheduler.
MAX_WORKERS = 8


def thread_map(
    function: Callable[[Item], Result], items: Iterable[Item], max_pending: int = 64
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order, computed by threads.

    Threads suffice where most of the work is done by libraries that release the global interpreter
    lock, such as Pillow and hashlib.

    Args:
        function: called in several threads.
        items: read no further ahead than ``max_pending``.
        max_pending: maximum number of results computed or buffered ahead of the consumer.
    """
    yield from _map_in_order(
        ThreadPoolExecutor(min(available_cores(), MAX_WORKERS)), function, items, max_pending
    )


def process_map(
    function: Callable[[Item], Result], items: Iterable[Item], max_pending: int
) -> Iterator[Result]:
    """Like :func:`thread_map` with processes, for functions that mostly run Python code.

    Args:
        function: a module-level function, or a partial of one.
        items: large enough that the cost of pickling them and their results is negligible.
        max_pending: maximum number of results computed or buffered ahead of the consumer.
    """
    # Forking takes milliseconds; it is safe only on Linux.
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
    """Exit within a second after the parent process ends, even if it is killed.

    Args:
        parent: the parent's process id.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _init_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it and ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    exit_with_parent(parent)


def available_cores() -> int:
    """Return the number of cores that this process may use.

    This is the smaller of its CPU affinity, which a cluster may restrict, and the CPU quota of its
    cgroup, which limits a container.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = cpu_quota()
    return max(ceil(quota), 1) if quota < cores else cores


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Return the CPU quota of this process's cgroups in cores; infinity if there is none.

    Args:
        root: the mount point of cgroups, version 1 or 2.
        own: the file that lists the cgroups of this process.
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
        # Every level may have a quota. In a container, the path may be that of the host.
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
