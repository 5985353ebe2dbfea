"""Synchronises the engines, so that each accepts the other's results as up to date.

Snakemake's metadata and dvc.lock are both written from the status of the jobs: Snakemake's before
it plans, dvc.lock after a run. A stale job is marked as stale for Snakemake; its entry in dvc.lock
is left unchanged, since DVC itself compares hashes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter

from carbench.core.errors import CarbenchError
from carbench.engines.dvc_config import open_content_store
from carbench.engines.dvc_internals import dvc_repo_lock
from carbench.engines.dvc_lock_file import write_lock_file
from carbench.engines.dvc_yaml import JobSpec
from carbench.engines.hashing import bytes_md5
from carbench.engines.job_records import JobRecord, has_record, save_record
from carbench.engines.job_run import remove_orphaned_outputs
from carbench.engines.mtimes import raise_mtimes
from carbench.engines.snakemake_internals import SnakemakeMetadata
from carbench.engines.staleness import stale_reason
from carbench.engines.state_files import read_state, write_state
from carbench.engines.workspace import JobStatus, Workspace

log = logging.getLogger("carbench")

# DVC reads times as floating-point seconds, which cannot represent single nanoseconds.
DVC_TICK_NS = 1_000_000

STAMPS_FILE = Path(".carbench/snakemake.json")
VERSION = 1
SCHEMA = TypeAdapter(dict[str, list[str | int]])


def open_workspace(root: Path, use_cached: bool = True) -> Workspace:
    """Return the repository's jobs and files, with DVC's cache as the content store."""
    return Workspace(root, open_content_store(root), use_cached)


def open_cleaned_workspace(root: Path) -> Workspace:
    """Return the workspace after removing stored outputs of jobs that no longer exist."""
    workspace = open_workspace(root)
    folders = {path for job in workspace.jobs.values() for path in job.deps}
    removed = remove_orphaned_outputs(workspace, sorted(folders))
    return open_workspace(root) if removed else workspace


def job_statuses(workspace: Workspace) -> dict[str, JobStatus]:
    """Return the status of every job by name."""
    statuses = {name: workspace.job_status(job) for name, job in workspace.jobs.items()}
    _update_mtimes_of_edits(workspace)
    workspace.save()
    return statuses


def sync_to_snakemake(workspace: Workspace, statuses: Mapping[str, JobStatus]) -> None:
    """Write Snakemake's metadata: mark each job as up to date or stale.

    Metadata files that have not changed since they were last written are skipped. Modification
    times are raised where Snakemake would otherwise count an output as older than an input.
    """
    metadata = SnakemakeMetadata(workspace.root)
    stamps = read_state(workspace.root / STAMPS_FILE, VERSION, SCHEMA) or {}
    written: dict[str, list[int | str]] = {}
    for status in statuses.values():
        job = status.job
        reason = "" if status.up_to_date else stale_reason(workspace, status)
        token = bytes_md5(reason.encode()) if reason else "current"
        for path in job.outs:
            if workspace.content(path) is None:
                continue
            if status.up_to_date:
                metadata.clear_incomplete(path)
            stamp = metadata.stamp(path)
            if stamp is None or stamps.get(path) != [token, *stamp]:
                if status.record:
                    times = status.record.times or _unknown_times(workspace, path)
                    metadata.mark_up_to_date(path, job, times)
                else:
                    metadata.mark_stale(path, job, reason)
                stamp = metadata.stamp(path) or []
            written[path] = [token, *stamp]
    raise_mtimes(workspace, statuses)
    workspace.save()
    if written != stamps:
        write_state(workspace.root / STAMPS_FILE, VERSION, written)


def sync_to_dvc(workspace: Workspace, statuses: Mapping[str, JobStatus]) -> list[str]:
    """Add up-to-date jobs to dvc.lock and their outputs to DVC's cache; return the added names.

    Raises:
        CarbenchError: another DVC command holds its lock.
    """
    for status in statuses.values():
        if status.record:
            _store_outputs(workspace, status.job, status.record)
    added = {
        name: (status.job, status.record, workspace.contents(status.job.deps))
        for name, status in statuses.items()
        if status.record and not status.in_dvc_lock
    }
    if added or not workspace.lock.complete:
        try:
            with dvc_repo_lock(workspace.root):
                write_lock_file(workspace.root, added)
        except BlockingIOError:
            raise CarbenchError(
                workspace.root / "dvc.lock",
                found="a running DVC command",
                expected="no other process that writes the file",
                fix="wait for that command to end, then run `carbench sync`",
            ) from None
    return list(added)


def _store_outputs(workspace: Workspace, job: JobSpec, record: JobRecord) -> None:
    """Store the outputs and the record of an up-to-date job, where either is missing.

    `dvc gc` may have deleted the outputs. The record may come from dvc.lock, whose entry the next
    run replaces, or from another clone.
    """
    if not has_record(workspace.root, job.name, record.inputs.key):
        save_record(workspace.root, record, workspace.store)
    # Outputs of carbench's scripts are restored from the store even if git tracks them.
    for path in job.outs if job.records_itself else sorted(job.cached):
        workspace.store_content(path, record.outs[path])


def _unknown_times(workspace: Workspace, path: str) -> tuple[float, float]:
    """Return equal start and end times for an output whose run time is unknown."""
    mtime = (workspace.root / path).stat().st_mtime
    return mtime, mtime


def _update_mtimes_of_edits(workspace: Workspace) -> None:
    """Change the modification time of files that were edited without changing it.

    DVC compares only the modification time.
    """
    for name in workspace.hashes.edits_with_same_mtime:
        path = workspace.root / name
        stat = path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + DVC_TICK_NS))
        log.warning("%s changed, but not its modification time; it was hashed again", name)
