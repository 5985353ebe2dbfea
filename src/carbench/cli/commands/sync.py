"""carbench sync: make results of one engine up to date for the other.

`snakemake` does this automatically before planning and after running. The command is a fast way to
list stale jobs of a large study, and to update dvc.lock after a killed run. With --remote, it also
exchanges results with other machines: stale jobs that one of them has run are restored from the
remote, and results of this one are pushed.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path

from carbench.engines.dvc_internals import repair_rwlock
from carbench.engines.sync import (
    job_statuses,
    open_cleaned_workspace,
    open_workspace,
    sync_to_dvc,
    sync_to_snakemake,
)
from carbench.engines.workspace import JobStatus, Workspace
from carbench.remote.bucket import Bucket
from carbench.remote.results import known_results, take_result

log = logging.getLogger("carbench")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--check",
        action="store_true",
        help="list stale jobs, write nothing, and exit with 1 if there are any",
    )
    choice.add_argument(
        "--remote",
        help="exchange results through this remote of .dvc/config, URL or folder",
    )


def run(args: argparse.Namespace) -> int:
    """Synchronise the engines and list the stale jobs."""
    bucket = None
    if args.remote:
        workspace = open_cleaned_workspace(Path())
        bucket = Bucket(Path(), args.remote, workspace.store)
        _take_results(workspace, bucket)
    workspace = open_workspace(Path()) if args.check else open_cleaned_workspace(Path())
    statuses = job_statuses(workspace)
    if not args.check:
        if repair_rwlock(Path()):
            log.info(
                "removed DVC's rwlock file, which was incomplete: DVC was killed while writing it"
            )
        sync_to_snakemake(workspace, statuses)
        added = sync_to_dvc(workspace, statuses)
        if added:
            log.info("added to dvc.lock: %s", ", ".join(added))
    if bucket is not None:
        _push_results(workspace, bucket, statuses)
    stale = [name for name, status in statuses.items() if not status.up_to_date]
    log.info("%d of %d jobs are up to date", len(statuses) - len(stale), len(statuses))
    if stale:
        log.info("stale (without the jobs downstream of them): %s", ", ".join(stale))
    return 1 if args.check and stale else 0


def _take_results(workspace: Workspace, bucket: Bucket) -> None:
    """Restore the results of stale jobs that another machine has computed."""
    found = list(known_results(workspace, bucket, workspace.jobs))
    taken = [
        job.name
        for job, record in found
        if take_result(open_workspace(Path()), bucket, job, record)
    ]
    if taken:
        log.info("taken from %s: %s", bucket.name, ", ".join(taken))


def _push_results(workspace: Workspace, bucket: Bucket, statuses: Mapping[str, JobStatus]) -> None:
    """Push the results of up-to-date jobs that the bucket does not have."""
    existing = bucket.records()
    pushed = []
    for name, status in statuses.items():
        record = status.record
        if record is None or not status.job.records_itself:
            continue
        if (name, record.inputs.key) not in existing:
            bucket.push_result(record)
            pushed.append(name)
    if pushed:
        log.info("pushed to %s: %s", bucket.name, ", ".join(pushed))
