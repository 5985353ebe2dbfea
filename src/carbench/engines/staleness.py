"""Why a job would run again: the same for both engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from carbench.core.errors import CarbenchError
from carbench.engines.dvc_yaml import JobSpec
from carbench.engines.input_changes import describe_changes
from carbench.engines.job_records import JobRecord, records_of_job
from carbench.engines.workspace import JobStatus, Workspace

# More differences than these are counted, not told.
MAX_LISTED = 3


def direct_upstream(jobs: Mapping[str, JobSpec]) -> dict[str, list[str]]:
    """Return, for each job, the jobs whose outputs it reads, directly."""
    maker = {path: job.name for job in jobs.values() for path in job.outs}
    inside: dict[str, list[str]] = {}
    for path, name in maker.items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            inside.setdefault("/".join(parts[:depth]), []).append(name)
    return {
        job.name: list(
            dict.fromkeys(
                name
                for path in job.deps
                for name in ([maker[path]] if path in maker else inside.get(path, []))
                if name != job.name
            )
        )
        for job in jobs.values()
    }


def all_upstream_jobs(name: str, upstream: Mapping[str, list[str]]) -> list[str]:
    """Return the jobs whose outputs a job reads, directly or not, in the order of dvc.yaml."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        more = set(upstream[waiting.pop()]) - found
        found |= more
        waiting += more
    return [each for each in upstream if each in found]


def stale_reason(workspace: Workspace, status: JobStatus) -> str:
    """Return what is wrong with an unproven job by itself, whatever comes before it."""
    job = status.job
    missing = [path for path in job.outs if workspace.content(path) is None]
    if missing:
        return f"{missing[0]} is missing"
    today = workspace.inputs_of(job)
    if today is None:
        return f"{next(workspace.missing(job))}, which it reads, is missing"
    before = _closest(workspace, job)
    if before is None:
        return f"nothing says how {job.outs[0]} was made"
    changed = list(describe_changes(before.inputs, today))
    if not changed:
        return f"{next(_damaged(workspace, before))} is not what the job wrote"
    return join_first(changed)


def join_first(items: Sequence[str]) -> str:
    """Return items in a line; of many, the first ones and how many more there are."""
    more = f"; and {len(items) - MAX_LISTED} more" if len(items) > MAX_LISTED else ""
    return "; ".join(items[:MAX_LISTED]) + more


def require_up_to_date(workspace: Workspace, statuses: Mapping[str, JobStatus]) -> None:
    """Raise :class:`CarbenchError` if a job's outputs are not what it would make today."""
    unproven = [status for status in statuses.values() if not status.up_to_date]
    if unproven:
        first = unproven[0]
        others = f" (and {len(unproven) - 1} more jobs)" if len(unproven) > 1 else ""
        raise CarbenchError(
            "results",
            key=first.job.name,
            found=f"{stale_reason(workspace, first)}{others}",
            expected="results of today's parameters, code and data",
            fix="run `snakemake` or `dvc repro` first",
        )


def explain_job(
    workspace: Workspace,
    statuses: Mapping[str, JobStatus],
    name: str,
    upstream: Mapping[str, list[str]],
) -> str:
    """Return why a job would run again, or whose word says that it is current.

    One sentence; of a job that is stale only because of others, a line for each of their reasons.
    """
    status = statuses[name]
    if not status.up_to_date:
        return f"{name} would run again: {stale_reason(workspace, status)}."
    causes: dict[str, list[str]] = {}
    for each in all_upstream_jobs(name, upstream):
        if statuses[each].up_to_date:
            continue
        causes.setdefault(stale_reason(workspace, statuses[each]), []).append(each)
    if causes:
        lines = [f"  {', '.join(names)}: {why}" for why, names in causes.items()]
        head = f"{name} would run again if one of these changes what it reads:"
        return "\n".join([head, *lines])
    assert status.record is not None
    made = (
        f"made on {status.record.made} from" if status.record.made else "which dvc.lock says is of"
    )
    return f"{name} is current: {made} today's command, parameters, code and inputs."


def _closest(workspace: Workspace, job: JobSpec) -> JobRecord | None:
    """What is known of a job's outputs as they lie there; else the last known of the job."""
    known = list(records_of_job(workspace.root, job.name))
    if entry := workspace.lock_entry(job.name):
        known.insert(0, entry)
    lying = [each for each in known if not any(_damaged(workspace, each))]
    today = workspace.inputs_of(job)
    same = [each for each in known if today and each.inputs.key == today.key]
    return next(iter([*lying, *same, *known]), None)


def _damaged(workspace: Workspace, record: JobRecord) -> Iterator[str]:
    for path, content in record.outs.items():
        found = workspace.content(path)
        if found is None or found.md5 != content.md5:
            yield path
