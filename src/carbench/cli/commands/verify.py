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

from carbench.engines.sync import DVC_TICK_NS, open_workspace, prove_all
from carbench.engines.why import reason
from carbench.engines.workspace import Proof, Workspace

log = logging.getLogger("carbench")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--deep", action="store_true", help="hash everything anew")


def run(args: argparse.Namespace) -> int:
    """Say what is not as it was made; 1 if there is any."""
    before = open_workspace(Path())
    remembered = prove_all(before)
    proofs = remembered
    workspace = before
    if args.deep:
        workspace = open_workspace(Path(), trust=False)
        proofs = prove_all(workspace)
        _tell_dvc(workspace, remembered, proofs)
    problems = [
        f"{name}: {reason(workspace, proof)}" for name, proof in proofs.items() if not proof.proven
    ]
    if args.deep:
        problems += _damaged_objects(workspace, proofs)
    for problem in problems:
        log.error("%s", problem)
    log.info("%d of %d jobs are as they were made", _proven(proofs), len(proofs))
    return 1 if problems else 0


def _proven(proofs: dict[str, Proof]) -> int:
    return sum(proof.proven for proof in proofs.values())


def _tell_dvc(workspace: Workspace, remembered: dict[str, Proof], proofs: dict[str, Proof]) -> None:
    """DVC goes by times: change those of files whose content is not what was remembered."""
    for name, proof in proofs.items():
        if remembered[name].proven and not proof.proven:
            for path in proof.job.outs:
                place = workspace.root / path
                if place.is_file():
                    found = place.stat()
                    os.utime(place, ns=(found.st_atime_ns, found.st_mtime_ns + DVC_TICK_NS))


def _damaged_objects(workspace: Workspace, proofs: dict[str, Proof]) -> Iterator[str]:
    for name, proof in proofs.items():
        if proof.witness is None:
            continue
        for path, content in proof.witness.outs.items():
            for damaged in workspace.store.damaged(content):
                yield f"{name}: the cache's copy of {path} is damaged and was removed ({damaged})"
