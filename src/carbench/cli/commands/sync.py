"""carbench sync: tell each engine what the other has made.

`snakemake` does this by itself, before it plans and after it ran. By hand it is the fast way to see
what is stale in a large study, and to bring dvc.lock up to date after a killed run.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from carbench.engines.dvc_internals import mend_rwlock
from carbench.engines.sync import open_tidied, open_workspace, prove_all, to_dvc, to_snakemake

log = logging.getLogger("carbench")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "--check", action="store_true", help="say what is stale; write nothing; 1 if anything is"
    )


def run(args: argparse.Namespace) -> int:
    """Sync, and say how many jobs are current and which are not."""
    workspace = open_workspace(Path()) if args.check else open_tidied(Path())
    proofs = prove_all(workspace)
    if not args.check:
        if mend_rwlock(Path()):
            log.info("DVC's own lock file was cut short by a kill; removed")
        to_snakemake(workspace, proofs)
        news = to_dvc(workspace, proofs)
        if news:
            log.info("dvc.lock now has %s", ", ".join(news))
    stale = [name for name, proof in proofs.items() if not proof.proven]
    log.info("%d of %d jobs are current", len(proofs) - len(stale), len(proofs))
    if stale:
        log.info("not by themselves: %s", ", ".join(stale))
    return 1 if args.check and stale else 0
