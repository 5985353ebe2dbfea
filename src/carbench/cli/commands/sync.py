"""carbench sync: tell each engine what the other has made.

`snakemake` does this by itself, before it plans and after it ran. By hand it is the fast way to see
what is stale in a large study, and to bring dvc.lock up to date after a killed run.
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
    """Describe the arguments."""
    parser.add_argument(
        "--check", action="store_true", help="say what is stale; write nothing; 1 if anything is"
    )


def run(args: argparse.Namespace) -> int:
    """Sync, and say how many jobs are current and which are not."""
    workspace = open_workspace(Path()) if args.check else open_cleaned_workspace(Path())
    statuses = job_statuses(workspace)
    if not args.check:
        if repair_rwlock(Path()):
            log.info("DVC's own lock file was cut short by a kill; removed")
        sync_to_snakemake(workspace, statuses)
        news = sync_to_dvc(workspace, statuses)
        if news:
            log.info("dvc.lock now has %s", ", ".join(news))
    stale = [name for name, status in statuses.items() if not status.up_to_date]
    log.info("%d of %d jobs are current", len(statuses) - len(stale), len(statuses))
    if stale:
        log.info("not by themselves: %s", ", ".join(stale))
    return 1 if args.check and stale else 0
