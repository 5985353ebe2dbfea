"""carbench sync: make results of one engine up to date for the other.

`snakemake` does this automatically before planning and after running. The command is a fast way to
list stale jobs of a large study, and to update dvc.lock after a killed run.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from carbench.engines.dvc_internals import repair_rwlock
from carbench.engines.sync import (
    job_statuses,
    open_cleaned_workspace,
    open_workspace,
    sync_to_dvc,
    sync_to_snakemake,
)

log = logging.getLogger("carbench")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--check",
        action="store_true",
        help="list stale jobs, write nothing, and exit with 1 if there are any",
    )


def run(args: argparse.Namespace) -> int:
    """Synchronise the engines and list the stale jobs."""
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
    stale = [name for name, status in statuses.items() if not status.up_to_date]
    log.info("%d of %d jobs are up to date", len(statuses) - len(stale), len(statuses))
    if stale:
        log.info("stale (without the jobs downstream of them): %s", ", ".join(stale))
    return 1 if args.check and stale else 0
