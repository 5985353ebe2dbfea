"""One result, either engine: what one engine has made becomes current to the other, by proof alone.

Snakemake's records and DVC's lock file are both written from what :mod:`carbench.engines` can
prove: to Snakemake before it plans, to DVC after a run. A job that is not proven is made stale to
Snakemake and left as it is to DVC, which looks by itself.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter

from carbench.core.errors import CarbenchError
from carbench.engines.dvc_cache import open_store
from carbench.engines.dvc_internals import dvc_lock
from carbench.engines.dvc_lock import write_lock
from carbench.engines.hashing import Content
from carbench.engines.job_run import remove_strays
from carbench.engines.records import has_receipt, save_receipt
from carbench.engines.snakemake_internals import Records
from carbench.engines.times import raise_times
from carbench.engines.versioned_files import read_remembered, write_remembered
from carbench.engines.why import reason
from carbench.engines.workspace import Proof, Workspace

log = logging.getLogger("carbench")

# DVC reads times as floating point seconds, which cannot tell nanoseconds apart.
DVC_TICK_NS = 1_000_000

STAMPS = Path(".carbench/snakemake.json")
# Of the form of what is remembered there.
VERSION = 1
FORM = TypeAdapter(dict[str, list[str | int]])


def open_workspace(root: Path, trust: bool = True) -> Workspace:
    """Return the repository's jobs and files, with DVC's cache as its store."""
    return Workspace(root, open_store(root), trust)


def prove_all(workspace: Workspace) -> dict[str, Proof]:
    """Return the proof of every job, by name."""
    proofs = {name: workspace.prove(job) for name, job in workspace.jobs.items()}
    _show_forgeries(workspace)
    workspace.save()
    return proofs


def to_snakemake(workspace: Workspace, proofs: Mapping[str, Proof]) -> None:
    """Write Snakemake's records: a proven job is current, any other job is not.

    Records that are as this wrote them last are not read again. Times of change are raised where
    Snakemake would otherwise take an older output of a proven job for outdated.
    """
    records = Records(workspace.root)
    stamps = read_remembered(workspace.root / STAMPS, VERSION, FORM) or {}
    written: dict[str, list[int | str]] = {}
    for proof in proofs.values():
        job = proof.job
        why = "" if proof.proven else reason(workspace, proof)
        token = hashlib.md5(why.encode(), usedforsecurity=False).hexdigest() if why else "current"
        for path in job.outs:
            if workspace.content(path) is None:
                continue
            if proof.proven:
                records.complete(path)
            stamp = records.stamp(path)
            if stamp is None or stamps.get(path) != [token, *stamp]:
                if proof.witness:
                    records.accept(path, job, proof.witness.times or _no_time(workspace, path))
                else:
                    records.refuse(path, job, why)
                stamp = records.stamp(path) or []
            written[path] = [token, *stamp]
    raise_times(workspace, proofs)
    workspace.save()
    if written != stamps:
        write_remembered(workspace.root / STAMPS, VERSION, written)


def to_dvc(workspace: Workspace, proofs: Mapping[str, Proof]) -> list[str]:
    """Put proven jobs into dvc.lock and their outputs into DVC's cache; return the new names.

    Raises:
        CarbenchError: another DVC command holds its lock.
    """
    for proof in proofs.values():
        if proof.proven:
            _keep(workspace, proof)
    news = {
        name: (proof.job, proof.witness, _deps(workspace, proof))
        for name, proof in proofs.items()
        if proof.proven and proof.witness and not proof.locked
    }
    if news or not workspace.lock.whole:
        try:
            with dvc_lock(workspace.root):
                write_lock(workspace.root, news)
        except BlockingIOError:
            raise CarbenchError(
                workspace.root / "dvc.lock",
                found="DVC at work",
                expected="nobody else who writes it",
                fix="wait for that command to end, then run `carbench sync`",
            ) from None
    return list(news)


def open_tidied(root: Path) -> Workspace:
    """Return the workspace, without what jobs of the past left in results/ and the store keeps."""
    workspace = open_workspace(root)
    folders = {path for job in workspace.jobs.values() for path in job.deps}
    return open_workspace(root) if remove_strays(workspace, sorted(folders)) else workspace


def _keep(workspace: Workspace, proof: Proof) -> None:
    """Put a proven job's outputs into the store, where `dvc gc` or a person removed them.

    What proves it is kept too, if that is dvc.lock, which the next run overwrites, or a receipt of
    another clone.
    """
    assert proof.witness is not None
    if not has_receipt(workspace.root, proof.job.name, proof.witness.ingredients.key):
        save_receipt(workspace.root, proof.witness, workspace.store)
    # What git keeps of a script of the study comes back from here, too.
    for path in proof.job.outs if proof.job.records_itself else sorted(proof.job.cached):
        content = proof.witness.outs[path]
        if not workspace.store.has(content):
            listing = workspace.hashes.listing(path) if content.nfiles is not None else None
            workspace.store.put(workspace.root / path, content, listing)


def _no_time(workspace: Workspace, path: str) -> tuple[float, float]:
    """What Snakemake is told of an output of which nobody knows how long it took."""
    made = (workspace.root / path).stat().st_mtime
    return made, made


def _deps(workspace: Workspace, proof: Proof) -> dict[str, Content]:
    return {path: found for path in proof.job.deps if (found := workspace.content(path))}


def _show_forgeries(workspace: Workspace) -> None:
    """Let DVC see an edit that hides behind an old time: it goes by that time alone."""
    for path in workspace.hashes.forged:
        place = workspace.root / path
        found = place.stat()
        os.utime(place, ns=(found.st_atime_ns, found.st_mtime_ns + DVC_TICK_NS))
        log.warning("%s changed, but not its time: hashed anew", path)
