"""Results that other machines have computed: found by the hash of a job's inputs, and restored.

The inputs of a job are known before its upstream jobs have run here, if a bucket has their records:
a record holds the hashes of the outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter

from carbench.core.errors import CarbenchError
from carbench.engines.dvc_yaml import JobSpec
from carbench.engines.job_records import JobInputs, JobRecord, find_record, save_record
from carbench.engines.job_run import JobRun
from carbench.engines.locks import named_lock
from carbench.engines.staleness import all_upstream_jobs, direct_upstream
from carbench.engines.workspace import Workspace
from carbench.remote.bucket import Bucket

log = logging.getLogger("carbench")


def known_results(
    workspace: Workspace, bucket: Bucket, names: Iterable[str]
) -> Iterator[tuple[JobSpec, JobRecord]]:
    """Yield the jobs that are not up to date here but have a record, upstream jobs first.

    The workspace then counts their outputs as present.

    Args:
        workspace: the workspace, of which no job has been looked at.
        bucket: where to look for records, after this repository.
        names: the jobs.
    """
    wanted, remote = set(names), bucket.records()
    for name in TopologicalSorter(direct_upstream(workspace.jobs)).static_order():
        job = workspace.jobs[name]
        if name not in wanted or workspace.job_status(job).up_to_date:
            continue
        inputs = workspace.inputs_of(job)
        if inputs is None:
            continue
        record = find_record(workspace.root, name, inputs.key, workspace.store)
        if record is None and (name, inputs.key) in remote:
            record = bucket.read_record(name, inputs.key)
        if record is None and (entry := workspace.lock_entry(name)):
            record = entry if entry.inputs.key == inputs.key else None
        if record is not None and set(record.outs) == set(job.outs):
            workspace.assume(record)
            yield job, record


def require_inputs(workspace: Workspace, bucket: Bucket, job: JobSpec) -> JobInputs:
    """Return the inputs of a job whose upstream jobs have run, here or elsewhere.

    Raises:
        CarbenchError: names an upstream job without a result.
    """
    upstream = all_upstream_jobs(job.name, direct_upstream(workspace.jobs))
    for _ in known_results(workspace, bucket, upstream):
        pass
    inputs = workspace.inputs_of(job)
    if inputs is None:
        missing = next(workspace.missing_inputs(job))
        makers = [name for name in upstream if missing in workspace.jobs[name].outs]
        raise CarbenchError(
            job.name,
            found=f"no result of {makers[0] if makers else missing}, here or in {bucket.name}",
            expected="results of all jobs that it reads, with the code and parameters of this "
            "clone",
            fix=f"where they were made, run `carbench sync --remote {bucket.name}`; or make them: "
            f"`carbench job {makers[0] if makers else 'JOB'} --remote {bucket.name}`",
        )
    return inputs


def take_result(workspace: Workspace, bucket: Bucket, job: JobSpec, record: JobRecord) -> bool:
    """Restore a job's outputs, and record that they are its result.

    Args:
        workspace: a new workspace.
        bucket: has the outputs.
        job: a job whose current inputs are those of the record.
        record: what it made.

    Returns:
        Whether the bucket has all outputs.
    """
    if not bucket.pull(record.outs.values()):
        log.warning("%s: %s lacks some of its outputs", job.name, bucket.name)
        return False
    save_record(workspace.root, record, workspace.store)
    with named_lock(workspace.root, job.name, on_wait=log.info):
        run = JobRun(workspace.root, job, workspace)
        restored = run.restore(record)
        if restored:
            run.finish()
    return restored
