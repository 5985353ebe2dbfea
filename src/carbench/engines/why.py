"""Why a job would run again: the same for both engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from carbench.core.errors import CarbenchError
from carbench.engines.differences import differences
from carbench.engines.dvc_yaml import JobSpec
from carbench.engines.records import Receipt, receipts_of
from carbench.engines.workspace import Proof, Workspace

# More differences than these are counted, not told.
TOLD = 3


def upstream(jobs: Mapping[str, JobSpec]) -> dict[str, list[str]]:
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


def all_above(name: str, above: Mapping[str, list[str]]) -> list[str]:
    """Return the jobs whose outputs a job reads, directly or not, in the order of dvc.yaml."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        more = set(above[waiting.pop()]) - found
        found |= more
        waiting += more
    return [each for each in above if each in found]


def reason(workspace: Workspace, proof: Proof) -> str:
    """Return what is wrong with an unproven job by itself, whatever comes before it."""
    job = proof.job
    missing = [path for path in job.outs if workspace.content(path) is None]
    if missing:
        return f"{missing[0]} is missing"
    today = workspace.ingredients(job)
    if today is None:
        return f"{next(workspace.missing(job))}, which it reads, is missing"
    before = _closest(workspace, job)
    if before is None:
        return f"nothing says how {job.outs[0]} was made"
    changed = list(differences(before.ingredients, today))
    if not changed:
        return f"{next(_damaged(workspace, before))} is not what the job wrote"
    return listed(changed)


def listed(items: Sequence[str]) -> str:
    """Return items in a line; of many, the first ones and how many more there are."""
    more = f"; and {len(items) - TOLD} more" if len(items) > TOLD else ""
    return "; ".join(items[:TOLD]) + more


def refuse_unproven(workspace: Workspace, proofs: Mapping[str, Proof]) -> None:
    """Raise :class:`CarbenchError` if a job's outputs are not what it would make today."""
    unproven = [proof for proof in proofs.values() if not proof.proven]
    if unproven:
        first = unproven[0]
        others = f" (and {len(unproven) - 1} more jobs)" if len(unproven) > 1 else ""
        raise CarbenchError(
            "results",
            key=first.job.name,
            found=f"{reason(workspace, first)}{others}",
            expected="results of today's parameters, code and data",
            fix="run `snakemake` or `dvc repro` first",
        )


def explain(
    workspace: Workspace, proofs: Mapping[str, Proof], name: str, above: Mapping[str, list[str]]
) -> str:
    """Return why a job would run again, or whose word says that it is current.

    One sentence; of a job that is stale only because of others, a line for each of their reasons.
    """
    proof = proofs[name]
    if not proof.proven:
        return f"{name} would run again: {reason(workspace, proof)}."
    causes: dict[str, list[str]] = {}
    for each in all_above(name, above):
        if proofs[each].proven:
            continue
        causes.setdefault(reason(workspace, proofs[each]), []).append(each)
    if causes:
        lines = [f"  {', '.join(names)}: {why}" for why, names in causes.items()]
        head = f"{name} would run again if one of these changes what it reads:"
        return "\n".join([head, *lines])
    assert proof.witness is not None
    made = (
        f"made on {proof.witness.made} from" if proof.witness.made else "which dvc.lock says is of"
    )
    return f"{name} is current: {made} today's command, parameters, code and inputs."


def _closest(workspace: Workspace, job: JobSpec) -> Receipt | None:
    """What is known of a job's outputs as they lie there; else the last known of the job."""
    known = list(receipts_of(workspace.root, job.name))
    if entry := workspace.locked(job.name):
        known.insert(0, entry)
    lying = [each for each in known if not any(_damaged(workspace, each))]
    today = workspace.ingredients(job)
    same = [each for each in known if today and each.ingredients.key == today.key]
    return next(iter([*lying, *same, *known]), None)


def _damaged(workspace: Workspace, receipt: Receipt) -> Iterator[str]:
    for path, content in receipt.outs.items():
        found = workspace.content(path)
        if found is None or found.md5 != content.md5:
            yield path
