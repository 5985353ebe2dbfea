"""Background tasks of a worker: model updates, drift detection, log retention, shutdown."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import multiprocessing
import os
import signal
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.deploy.bundle.loading import load_bundle
from carbench.deploy.serve.request_errors import RejectedRequestError
from carbench.deploy.serve.retention import Retention
from carbench.deploy.serve.service import PredictionService
from carbench.deploy.serve.settings import Settings

# Seconds between checks for a new model.
POLL_SECONDS = 0.5
log = logging.getLogger("carbench")


async def watch_for_new_model(service: PredictionService) -> None:
    """Replace the model whenever the supervisor has pointed the link at another snapshot."""
    link, served = service.settings.model, service.folder
    while True:
        await asyncio.sleep(POLL_SECONDS)
        target = Path(os.path.realpath(link))
        if target == served:
            continue
        served = target
        try:
            bundle = await asyncio.to_thread(load_bundle, target, service.settings.int8)
            await service.replace(bundle)
        except (CarbenchError, RejectedRequestError) as error:
            log.error(
                "worker %d keeps serving %s: %s", os.getpid(), service.bundle.model.version, error
            )


async def run_maintenance(service: PredictionService) -> None:
    """Run drift detection and log retention periodically, in one of the workers."""
    settings = service.settings
    retention = Retention(settings.log, settings.keep_rows, settings.keep_days)
    lock = _lock_file(settings)
    while True:
        await asyncio.sleep(settings.monitor_interval)
        if lock is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until this process exits
            except BlockingIOError:
                continue
        if await service.log_failure() is not None:
            continue  # already logged
        for task in (retention.enforce, service.monitor.refresh):
            try:
                await asyncio.to_thread(task)
            except Exception as error:  # retried at the next interval; predictions do not need it
                log.error("%s", error)


def _lock_file(settings: Settings) -> int | None:
    if settings.runtime_folder is None:
        return None
    return os.open(settings.runtime_folder / "maintenance.lock", os.O_RDWR | os.O_CREAT, 0o600)


def stop_with_supervisor() -> None:
    """Stop this worker, as by SIGTERM, when the process that started it is gone.

    If the supervisor is killed, nothing else would stop its workers: they would keep running and
    hold the port. Call it within the event loop. Does nothing if there is no parent process.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop, sentinel = asyncio.get_running_loop(), parent.sentinel

    def stop() -> None:
        loop.remove_reader(sentinel)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(sentinel, stop)
