"""Stages whose command records nothing by itself: any program that dvc.yaml and a rule both run.

DVC records such a stage when its command has ended, from what then lies there. So does this, after
Snakemake has run it, with one more condition: nothing that it reads has changed since it began.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from carbench.core.errors import CarbenchError
from carbench.engines.dvc_yaml import JobSpec, one_line
from carbench.engines.job_records import JobRecord, save_record
from carbench.engines.snakemake_internals import SnakemakeMetadata
from carbench.engines.workspace import Workspace


def matching_jobs(workspace: Workspace, jobs: Iterable[Any]) -> list[JobSpec]:
    """Return the jobs of dvc.yaml that are word for word some of Snakemake's."""
    commands = {
        frozenset(map(str, job.output)): one_line(job.shellcmd) for job in jobs if job.shellcmd
    }
    return [
        job
        for job in workspace.jobs.values()
        if commands.get(frozenset(job.outs)) == one_line(job.command)
    ]


def record_external_jobs(workspace: Workspace, before: Workspace, jobs: Iterable[Any]) -> bool:
    """Write records for finished jobs that write none; say whether there was any.

    A script of the study that has left none, was not run, or has something that it did not record.

    Args:
        workspace: after the run.
        before: the same before it, for the parameters that the jobs have read.
        jobs: of Snakemake, that really ran (not by ``--touch``) and did not fail.
    """
    metadata = SnakemakeMetadata(workspace.root)
    found = False
    for job in matching_jobs(workspace, jobs):
        times = metadata.times(job.outs[0])
        wanted = workspace.inputs_of(job)
        if (
            job.records_itself
            or workspace.job_status(job).up_to_date
            or times is None
            or wanted is None
        ):
            continue
        outs = {path: each for path in job.outs if (each := workspace.content(path))}
        if len(outs) < len(job.outs) or not _is_settled(workspace, before, job, times[0]):
            continue
        save_record(workspace.root, JobRecord(job.name, wanted, outs, times), workspace.store)
        found = True
    return found


def _is_settled(workspace: Workspace, before: Workspace, job: JobSpec, began: float) -> bool:
    """Say whether what a job reads is as it was when the job began."""
    try:
        if any(workspace.value(key) != before.value(key) for key in job.params):
            return False
    except CarbenchError:
        return False
    files = [key.rpartition(":")[0] for key in job.params if ":" in key]
    return all(_changed(workspace.root / path) <= began for path in [*job.deps, *files])


def _changed(path: Path) -> float:
    """When a file, or anything in a folder, changed last, in seconds since 1970."""
    latest = path.stat().st_ctime
    for parent, _, names in os.walk(path):
        inside = (Path(parent, name).stat().st_ctime for name in ["", *names])
        latest = max(latest, *inside)
    return latest
