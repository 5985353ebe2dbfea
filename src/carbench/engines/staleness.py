"""Explanations of why a job would run again; they hold for both engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from carbench.core.errors import CarbenchError
from carbench.engines.dvc_yaml import JobSpec
from carbench.engines.input_changes import describe_changes
from carbench.engines.job_records import JobRecord, records_of_job
from carbench.engines.workspace import JobStatus, Workspace

MAX_LISTED = 3


def direct_upstream(jobs: Mapping[str, JobSpec]) -> dict[str, list[str]]:
    """Return, for each job, the jobs whose outputs it reads directly."""
    producer = {path: job.name for job in jobs.values() for path in job.outs}
    producers_in: dict[str, list[str]] = {}
    for path, name in producer.items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            producers_in.setdefault("/".join(parts[:depth]), []).append(name)
    return {
        job.name: list(
            dict.fromkeys(
                name
                for path in job.deps
                for name in ([producer[path]] if path in producer else producers_in.get(path, []))
                if name != job.name
            )
        )
        for job in jobs.values()
    }


def all_upstream_jobs(name: str, upstream: Mapping[str, list[str]]) -> list[str]:
    """Return the jobs whose outputs a job reads, directly or not, in the order of dvc.yaml."""
    visited: set[str] = set()
    queue = [name]
    while queue:
        new = set(upstream[queue.pop()]) - visited
        visited |= new
        queue += new
    return [job for job in upstream if job in visited]


def stale_reason(workspace: Workspace, status: JobStatus) -> str:
    """Return why a job is stale, apart from its upstream jobs."""
    job = status.job
    missing = [path for path in job.outs if workspace.content(path) is None]
    if missing:
        return f"{missing[0]} is missing"
    inputs = workspace.inputs_of(job)
    if inputs is None:
        return f"its input {next(workspace.missing_inputs(job))} is missing"
    record = _closest_record(workspace, job)
    if record is None:
        return f"there is no record of how {job.outs[0]} was made"
    changes = list(describe_changes(record.inputs, inputs))
    if not changes:
        return f"{next(_changed_outputs(workspace, record))} is not what the job wrote"
    return join_first(changes)


def join_first(items: Sequence[str]) -> str:
    """Return the first items in one line and the number of the others."""
    more = f"; and {len(items) - MAX_LISTED} more" if len(items) > MAX_LISTED else ""
    return "; ".join(items[:MAX_LISTED]) + more


def require_up_to_date(workspace: Workspace, statuses: Mapping[str, JobStatus]) -> None:
    """Raise :class:`CarbenchError` if a job is stale."""
    stale = [status for status in statuses.values() if not status.up_to_date]
    if stale:
        others = f" (and {len(stale) - 1} more jobs)" if len(stale) > 1 else ""
        raise CarbenchError(
            "results",
            key=stale[0].job.name,
            found=f"{stale_reason(workspace, stale[0])}{others}",
            expected="results of the current parameters, code and data",
            fix="run `snakemake` or `dvc repro` first",
        )


def explain_job(
    workspace: Workspace,
    statuses: Mapping[str, JobStatus],
    name: str,
    upstream: Mapping[str, list[str]],
) -> str:
    """Return why a job would run again, or which record shows that it is up to date.

    The result is one sentence, followed by one line per reason if only upstream jobs are stale.
    """
    status = statuses[name]
    if not status.up_to_date:
        return f"{name} would run again: {stale_reason(workspace, status)}."
    causes: dict[str, list[str]] = {}
    for job in all_upstream_jobs(name, upstream):
        if not statuses[job].up_to_date:
            causes.setdefault(stale_reason(workspace, statuses[job]), []).append(job)
    if causes:
        lines = [f"  {', '.join(jobs)}: {cause}" for cause, jobs in causes.items()]
        head = f"{name} would run again if one of these changes what it reads:"
        return "\n".join([head, *lines])
    assert status.record is not None
    made = (
        f"made on {status.record.finished} from"
        if status.record.finished
        else "dvc.lock has an entry with"
    )
    return f"{name} is up to date: {made} the current command, parameters, code and inputs."


def _closest_record(workspace: Workspace, job: JobSpec) -> JobRecord | None:
    """Return a record of the current outputs, else of the current inputs, else the newest one."""
    records = list(records_of_job(workspace.root, job.name))
    if entry := workspace.lock_entry(job.name):
        records.insert(0, entry)
    same_outputs = [record for record in records if not any(_changed_outputs(workspace, record))]
    inputs = workspace.inputs_of(job)
    same_inputs = [record for record in records if inputs and record.inputs.key == inputs.key]
    return next(iter([*same_outputs, *same_inputs, *records]), None)


def _changed_outputs(workspace: Workspace, record: JobRecord) -> Iterator[str]:
    for path, content in record.outs.items():
        current = workspace.content(path)
        if current is None or current.md5 != content.md5:
            yield path
