"""Records of stages that run a program other than carbench's scripts.

carbench's scripts write their job records themselves. For any other command that dvc.yaml and a
rule share, the record is written after Snakemake has run it, as DVC does, with one more condition:
nothing that the job reads has changed since it started.
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


def matching_jobs(workspace: Workspace, snakemake_jobs: Iterable[Any]) -> list[JobSpec]:
    """Return the jobs of dvc.yaml with the same command and outputs as one of Snakemake's."""
    commands = {
        frozenset(map(str, job.output)): one_line(job.shellcmd)
        for job in snakemake_jobs
        if job.shellcmd
    }
    return [
        job
        for job in workspace.jobs.values()
        if commands.get(frozenset(job.outs)) == one_line(job.command)
    ]


def record_external_jobs(
    workspace: Workspace, before: Workspace, snakemake_jobs: Iterable[Any]
) -> bool:
    """Write records for finished jobs whose commands write none; return whether there were any.

    Args:
        workspace: the workspace after the run.
        before: the workspace before the run, for the parameters that the jobs have read.
        snakemake_jobs: jobs that really ran (not ``--touch``) and succeeded.
    """
    metadata = SnakemakeMetadata(workspace.root)
    recorded = False
    for job in matching_jobs(workspace, snakemake_jobs):
        times = metadata.times(job.outs[0])
        inputs = workspace.inputs_of(job)
        # A script of carbench without a record did not run, or some of its files are not recorded.
        if job.records_itself or workspace.job_status(job).up_to_date:
            continue
        if times is None or inputs is None:
            continue
        outs = {path: content for path in job.outs if (content := workspace.content(path))}
        if len(outs) < len(job.outs) or not _is_unchanged(workspace, before, job, times[0]):
            continue
        save_record(workspace.root, JobRecord(job.name, inputs, outs, times), workspace.store)
        recorded = True
    return recorded


def _is_unchanged(workspace: Workspace, before: Workspace, job: JobSpec, start: float) -> bool:
    """Return whether everything that a job reads is as it was when the job started."""
    try:
        if any(workspace.value(key) != before.value(key) for key in job.params):
            return False
    except CarbenchError:
        return False
    files = [key.rpartition(":")[0] for key in job.params if ":" in key]
    return all(_last_change(workspace.root / path) <= start for path in [*job.deps, *files])


def _last_change(path: Path) -> float:
    """Return when a file, or anything in a folder, last changed, in seconds since 1970."""
    latest = path.stat().st_ctime
    for parent, _, names in os.walk(path):
        latest = max(latest, *(Path(parent, name).stat().st_ctime for name in ["", *names]))
    return latest
