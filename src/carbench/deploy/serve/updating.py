"""A worker's background work: taking a new model over, monitoring, retention."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.deploy.bundle.loading import load_bundle
from carbench.deploy.serve.refusals import RefusedError
from carbench.deploy.serve.retention import Retention
from carbench.deploy.serve.service import Service
from carbench.deploy.serve.settings import Settings

# Seconds between looks for a new model.
POLL = 0.5
log = logging.getLogger("carbench")


async def follow_model(service: Service) -> None:
    """Replace the model whenever the supervisor has set the link to another copy."""
    link, served = service.settings.model, service.folder
    while True:
        await asyncio.sleep(POLL)
        target = Path(os.path.realpath(link))
        if target == served:
            continue
        served = target
        try:
            bundle = await asyncio.to_thread(load_bundle, target, service.settings.int8)
            await service.replace(bundle)
        except (CarbenchError, RefusedError) as error:
            log.error("worker %d keeps %s: %s", os.getpid(), service.bundle.model.version, error)


async def keep_house(service: Service) -> None:
    """Compare and delete at intervals, in one of the workers."""
    settings = service.settings
    retention = Retention(settings.log, settings.retain_rows, settings.retain_days)
    lock = _lock_file(settings)
    while True:
        await asyncio.sleep(settings.monitor_seconds)
        if lock is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends
            except BlockingIOError:
                continue
        if await service.log_failure() is not None:
            continue  # it was reported
        for work in (retention.enforce, service.monitor.look):
            try:
                await asyncio.to_thread(work)
            except Exception as error:  # another minute may be better; answers do not depend on it
                log.error("%s", error)


def _lock_file(settings: Settings) -> int | None:
    if settings.runtime is None:
        return None
    return os.open(settings.runtime / "house.lock", os.O_RDWR | os.O_CREAT, 0o600)
