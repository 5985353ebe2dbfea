"""One result, either engine: what one engine has made becomes current to the other, by status alone.

Snakemake's records and DVC's lock file are both written from what :mod:`carbench.engines` can
prove: to Snakemake before it plans, to DVC after a run. A job that is not up_to_date is made stale to
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
from carbench.engines.dvc_config import open_content_store
from carbench.engines.dvc_internals import dvc_repo_lock
from carbench.engines.dvc_lock_file import write_lock_file
from carbench.engines.hashing import Content
from carbench.engines.job_records import has_record, save_record
from carbench.engines.job_run import remove_orphaned_outputs
from carbench.engines.mtimes import raise_mtimes
from carbench.engines.snakemake_internals import SnakemakeMetadata
from carbench.engines.staleness import stale_reason
from carbench.engines.state_files import read_state, write_state
from carbench.engines.workspace import JobStatus, Workspace

log = logging.getLogger("carbench")

# DVC reads times as floating point seconds, which cannot tell nanoseconds apart.
DVC_TICK_NS = 1_000_000

STAMPS = Path(".carbench/snakemake.json")
# Of the form of what is remembered there.
VERSION = 1
FORM = TypeAdapter(dict[str, list[str | int]])


def open_workspace(root: Path, use_cached: bool = True) -> Workspace:
    """Return the repository's jobs and files, with DVC's cache as its store."""
    return Workspace(root, open_content_store(root), use_cached)


def job_statuses(workspace: Workspace) -> dict[str, JobStatus]:
    """Return the status of every job, by name."""
    statuses = {name: workspace.job_status(job) for name, job in workspace.jobs.items()}
    _show_forgeries(workspace)
    workspace.save()
    return statuses


def sync_to_snakemake(workspace: Workspace, statuses: Mapping[str, JobStatus]) -> None:
    """Write Snakemake's records: a up_to_date job is current, any other job is not.

    SnakemakeMetadata that are as this wrote them last are not read again. Times of change are raised where
    Snakemake would otherwise take an older output of a up_to_date job for outdated.
    """
    metadata = SnakemakeMetadata(workspace.root)
    stamps = read_state(workspace.root / STAMPS, VERSION, FORM) or {}
    written: dict[str, list[int | str]] = {}
    for status in statuses.values():
        job = status.job
        why = "" if status.up_to_date else stale_reason(workspace, status)
        token = hashlib.md5(why.encode(), usedforsecurity=False).hexdigest() if why else "current"
        for path in job.outs:
            if workspace.content(path) is None:
                continue
            if status.up_to_date:
                metadata.clear_incomplete(path)
            stamp = metadata.stamp(path)
            if stamp is None or stamps.get(path) != [token, *stamp]:
                if status.record:
                    metadata.mark_up_to_date(
                        path, job, status.record.times or _no_time(workspace, path)
                    )
                else:
                    metadata.mark_stale(path, job, why)
                stamp = metadata.stamp(path) or []
            written[path] = [token, *stamp]
    raise_mtimes(workspace, statuses)
    workspace.save()
    if written != stamps:
        write_state(workspace.root / STAMPS, VERSION, written)


def sync_to_dvc(workspace: Workspace, statuses: Mapping[str, JobStatus]) -> list[str]:
    """Put up_to_date jobs into dvc.lock and their outputs into DVC's cache; return the new names.

    Raises:
        CarbenchError: another DVC command holds its lock.
    """
    for status in statuses.values():
        if status.up_to_date:
            _keep(workspace, status)
    news = {
        name: (status.job, status.record, _deps(workspace, status))
        for name, status in statuses.items()
        if status.up_to_date and status.record and not status.in_dvc_lock
    }
    if news or not workspace.lock.complete:
        try:
            with dvc_repo_lock(workspace.root):
                write_lock_file(workspace.root, news)
        except BlockingIOError:
            raise CarbenchError(
                workspace.root / "dvc.lock",
                found="DVC at work",
                expected="nobody else who writes it",
                fix="wait for that command to end, then run `carbench sync`",
            ) from None
    return list(news)


def open_cleaned_workspace(root: Path) -> Workspace:
    """Return the workspace, without what jobs of the past left in results/ and the store keeps."""
    workspace = open_workspace(root)
    folders = {path for job in workspace.jobs.values() for path in job.deps}
    return (
        open_workspace(root) if remove_orphaned_outputs(workspace, sorted(folders)) else workspace
    )


def _keep(workspace: Workspace, status: JobStatus) -> None:
    """Put a up_to_date job's outputs into the store, where `dvc gc` or a person removed them.

    What proves it is kept too, if that is dvc.lock, which the next run overwrites, or a record of
    another clone.
    """
    assert status.record is not None
    if not has_record(workspace.root, status.job.name, status.record.inputs.key):
        save_record(workspace.root, status.record, workspace.store)
    # What git keeps of a script of the study comes back from here, too.
    for path in status.job.outs if status.job.records_itself else sorted(status.job.cached):
        content = status.record.outs[path]
        if not workspace.store.has(content):
            listing = workspace.hashes.listing(path) if content.nfiles is not None else None
            workspace.store.add(workspace.root / path, content, listing)


def _no_time(workspace: Workspace, path: str) -> tuple[float, float]:
    """What Snakemake is told of an output of which nobody knows how long it took."""
    made = (workspace.root / path).stat().st_mtime
    return made, made


def _deps(workspace: Workspace, status: JobStatus) -> dict[str, Content]:
    return {path: found for path in status.job.deps if (found := workspace.content(path))}


def _show_forgeries(workspace: Workspace) -> None:
    """Let DVC see an edit that hides behind an old time: it goes by that time alone."""
    for path in workspace.hashes.edits_with_same_mtime:
        place = workspace.root / path
        found = place.stat()
        os.utime(place, ns=(found.st_atime_ns, found.st_mtime_ns + DVC_TICK_NS))
        log.warning("%s changed, but not its time: hashed anew", path)
