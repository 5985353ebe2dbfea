"""carbench verify: hold what lies in results/ against what the jobs have written.

Goes by remembered hashes of files that the file system says are unchanged; ``--deep`` hashes every
file anew, and every object of the cache that the results need: it catches what no clock shows.
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
    """Describe the arguments."""
    parser.add_argument("--deep", action="store_true", help="hash everything anew")


def run(args: argparse.Namespace) -> int:
    """Say what is not as it was made; 1 if there is any."""
    before = open_workspace(Path())
    remembered = job_statuses(before)
    statuses = remembered
    workspace = before
    if args.deep:
        workspace = open_workspace(Path(), use_cached=False)
        statuses = job_statuses(workspace)
        _tell_dvc(workspace, remembered, statuses)
    problems = [
        f"{name}: {stale_reason(workspace, status)}"
        for name, status in statuses.items()
        if not status.up_to_date
    ]
    if args.deep:
        problems += _damaged_objects(workspace, statuses)
    for problem in problems:
        log.error("%s", problem)
    log.info("%d of %d jobs are as they were made", _count_up_to_date(statuses), len(statuses))
    return 1 if problems else 0


def _count_up_to_date(statuses: dict[str, JobStatus]) -> int:
    return sum(status.up_to_date for status in statuses.values())


def _tell_dvc(
    workspace: Workspace, remembered: dict[str, JobStatus], statuses: dict[str, JobStatus]
) -> None:
    """DVC goes by times: change those of files whose content is not what was remembered."""
    for name, status in statuses.items():
        if remembered[name].up_to_date and not status.up_to_date:
            for path in status.job.outs:
                place = workspace.root / path
                if place.is_file():
                    found = place.stat()
                    os.utime(place, ns=(found.st_atime_ns, found.st_mtime_ns + DVC_TICK_NS))


def _damaged_objects(workspace: Workspace, statuses: dict[str, JobStatus]) -> Iterator[str]:
    for name, status in statuses.items():
        if status.record is None:
            continue
        for path, content in status.record.outs.items():
            for damaged in workspace.store.remove_damaged(content):
                yield f"{name}: the cache's copy of {path} is damaged and was removed ({damaged})"
