"""Why a job would run again, in a sentence: the same for both engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from carbench.errors import CarbenchError
from carbench.ledger.definition import JobSpec
from carbench.ledger.differences import differences
from carbench.ledger.receipts import Receipt, receipts_of
from carbench.ledger.workspace import Proof, Workspace

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


def reason(workspace: Workspace, proof: Proof) -> str:
    """Return what is wrong with an unproven job by itself, whatever comes before it."""
    job = proof.job
    missing = [path for path in job.outs if workspace.content(path) is None]
    if missing:
        return f"{missing[0]} is missing"
    today = workspace.ingredients(job)
    if today is None:
        gone = next(path for path in job.deps if workspace.content(path) is None)
        return f"{gone}, which it reads, is missing"
    before = _closest(workspace, job)
    if before is None:
        return f"nothing says how {job.outs[0]} was made"
    changed = list(differences(before.ingredients, today))
    if not changed:
        return f"{next(_damaged(workspace, before))} is not what the job wrote"
    more = f"; and {len(changed) - TOLD} more" if len(changed) > TOLD else ""
    return "; ".join(changed[:TOLD]) + more


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
    """Return one sentence: why a job would run again, or whose word says that it is current."""
    proof = proofs[name]
    if not proof.proven:
        return f"{name} would run again: {reason(workspace, proof)}."
    origin = next(_unproven_above(proofs, name, above), None)
    if origin:
        return (
            f"{name} would run again, if what comes before it changes: {origin} would run again: "
            f"{reason(workspace, proofs[origin])}."
        )
    assert proof.witness is not None
    made = (
        f"made on {proof.witness.made} from" if proof.witness.made else "which dvc.lock says is of"
    )
    return f"{name} is current: {made} today's command, parameters, code and inputs."


def _unproven_above(
    proofs: Mapping[str, Proof], name: str, above: Mapping[str, list[str]]
) -> Iterator[str]:
    """Unproven jobs before a job, the nearest first."""
    seen: set[str] = set()
    level = above[name]
    while level:
        yield from (each for each in level if not proofs[each].proven)
        seen.update(level)
        level = list(dict.fromkeys(up for each in level for up in above[each] if up not in seen))


def _closest(workspace: Workspace, job: JobSpec) -> Receipt | None:
    """What is known of a job's outputs as they lie there; else the last known of the job."""
    known = list(receipts_of(workspace.root, job.name))
    if job.name in workspace.lock.entries:
        known.insert(0, workspace.lock.entries[job.name])
    lying = [each for each in known if not any(_damaged(workspace, each))]
    today = workspace.ingredients(job)
    same = [each for each in known if today and each.ingredients.key == today.key]
    return next(iter([*lying, *same, *known]), None)


def _damaged(workspace: Workspace, receipt: Receipt) -> Iterator[str]:
    for path, content in receipt.outs.items():
        found = workspace.content(path)
        if found is None or found.md5 != content.md5:
            yield path
