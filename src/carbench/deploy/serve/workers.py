"""What a worker process owes those beside it."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal


def end_with_parent() -> None:
    """From now on end, as by SIGTERM, when the process that started this one is gone.

    A killed parent ends nobody; its workers would go on, unseen, and hold the port. Called within
    the event loop; where there is no parent nothing happens.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop, sentinel = asyncio.get_running_loop(), parent.sentinel

    def orphaned() -> None:
        loop.remove_reader(sentinel)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(sentinel, orphaned)
