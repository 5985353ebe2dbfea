"""carbench verify: check that results/ contains what the jobs have written.

Hashes of files with unchanged metadata are taken from a cache. ``--deep`` hashes every file again,
and every object of DVC's cache that the results need: it finds changes without a new timestamp.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from carbench.engines.staleness import stale_reason
from carbench.engines.sync import DVC_TICK_NS, job_statuses, open_workspace
from carbench.engines.workspace import JobStatus, Workspace

log = logging.getLogger("carbench")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--deep", action="store_true", help="hash every file again")


def run(args: argparse.Namespace) -> int:
    """List the differences; return 1 if there are any."""
    workspace = open_workspace(Path())
    statuses = job_statuses(workspace)
    if args.deep:
        cached = statuses
        workspace = open_workspace(Path(), use_cached=False)
        statuses = job_statuses(workspace)
        _update_mtimes(workspace, cached, statuses)
    problems = [
        f"{name}: {stale_reason(workspace, status)}"
        for name, status in statuses.items()
        if not status.up_to_date
    ]
    if args.deep:
        problems += _damaged_objects(workspace, statuses)
    for problem in problems:
        log.error("%s", problem)
    log.info("%d of %d jobs are up to date", _count_up_to_date(statuses), len(statuses))
    return 1 if problems else 0


def _count_up_to_date(statuses: dict[str, JobStatus]) -> int:
    return sum(status.up_to_date for status in statuses.values())


def _update_mtimes(
    workspace: Workspace, cached: dict[str, JobStatus], statuses: dict[str, JobStatus]
) -> None:
    """Change the modification time of changed files, since DVC compares only that."""
    for name, status in statuses.items():
        if cached[name].up_to_date and not status.up_to_date:
            for path in status.job.outs:
                file = workspace.root / path
                if file.is_file():
                    stat = file.stat()
                    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + DVC_TICK_NS))


def _damaged_objects(workspace: Workspace, statuses: dict[str, JobStatus]) -> Iterator[str]:
    for name, status in statuses.items():
        if status.record is None:
            continue
        for path, content in status.record.outs.items():
            for damaged in workspace.store.remove_damaged(content):
                yield f"{name}: the cache's copy of {path} is damaged and was removed ({damaged})"
