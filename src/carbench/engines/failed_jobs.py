"""What a user needs to know of failed jobs: the last message of each, and where its log is.

Snakemake can only show whole logs, with every epoch, and of a job on a cluster nothing but paths.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from carbench.engines.snakemake_internals import FailedJob

MAX_LINES = 20


def describe_failed_jobs(root: Path, jobs: Iterable[FailedJob]) -> str:
    """Return some lines for each failed job; an empty string if there is none."""
    return "".join(f"{job.name} failed: {_reason(root, job)}\n" for job in jobs)


def _reason(root: Path, job: FailedJob) -> str:
    if job.log is None:
        return "it has no log; Snakemake's message above says more"
    try:
        lines = (root / job.log).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    if not lines:
        return f"nothing in {job.log}, so it ended before it started; see Snakemake's message above"
    message = "\n".join(f"  {line}" for line in _last_message(lines, job.rule))
    return f"the end of {job.log}:\n{message}"


def _last_message(lines: list[str], stage: str) -> list[str]:
    """Return the lines of the last message, of which only the first begins with the stage."""
    start = next(
        (n for n in reversed(range(len(lines))) if lines[n].startswith((f"{stage} ", f"{stage}:"))),
        len(lines) - 1,
    )
    return lines[start:][-MAX_LINES:]
