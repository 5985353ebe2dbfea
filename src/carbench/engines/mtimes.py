"""Times of change of results, kept such that Snakemake does not take a current one for outdated.

Snakemake cannot be told to look at content alone: an input that is newer than an output counts as
changed, whatever is in it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from carbench.engines.dvc_yaml import JobSpec
from carbench.engines.workspace import JobStatus, Workspace


def raise_mtimes(workspace: Workspace, statuses: Mapping[str, JobStatus]) -> None:
    """Make the outputs of up_to_date jobs at least as new as what they were made from.

    Snakemake cannot be told to look at content alone: an input that is newer counts as changed, and
    a job whose input is from the future fails. Times that a clock set ahead left are therefore
    brought back to now.
    """
    now = time.time_ns()
    written: dict[str, int] = {}
    read: dict[str, int] = {}
    inside: dict[str, list[str]] = {}
    for path in (path for status in statuses.values() for path in status.job.outs):
        if (found := _times(workspace.root / path)) is None:
            continue
        if max(found) > now:
            _set_time(workspace, path, now)
            found = (now, now)
        written[path], read[path] = found
        for parent in Path(path).parents:
            inside.setdefault(parent.as_posix(), []).append(path)
    for status in statuses.values():  # dvc.yaml names jobs after those that they read
        if not status.up_to_date:
            continue
        newest = 0
        for dep in status.job.deps:
            if dep.startswith(("src/", "scripts/")):
                continue
            for path in [dep] if dep in read else inside.get(dep, [dep]):
                if path not in read:
                    read[path] = (_times(workspace.root / path) or (0, 0))[1]
                newest = max(newest, read[path])
        for path in status.job.outs:
            if written.get(path, newest) < newest:
                _set_time(workspace, path, newest)
                written[path] = newest
                read[path] = max(read[path], newest)
        benchmark = _benchmark(workspace.root, status.job)
        if benchmark and (_times(benchmark) or (newest, newest))[0] < newest:
            os.utime(benchmark, ns=(newest, newest))


def _benchmark(root: Path, job: JobSpec) -> Path | None:
    """Where Snakemake writes what a job of the study took; it counts as output to Snakemake."""
    found = re.search(r" --log results/logs/(\S+)\.log$", job.command)
    return root / f"results/benchmarks/{found[1]}.tsv" if found else None


def _times(path: Path) -> tuple[int, int] | None:
    """When a file changed, as Snakemake looks at it: as an output, and as an input.

    A link into the cache is as old as itself as an output, and as what it leads to as an input. A
    folder is as old as Snakemake's mark in it.
    """
    try:
        own, target = path.lstat(), path.stat()
    except FileNotFoundError:
        return None
    if path.is_dir():
        mark = path / ".snakemake_timestamp"
        own = target = mark.stat() if mark.exists() else target
    return own.st_mtime_ns, max(own.st_mtime_ns, target.st_mtime_ns)


def _set_time(workspace: Workspace, path: str, time_ns: int) -> None:
    place = workspace.root / path
    mark = place / ".snakemake_timestamp"
    if mark.exists():
        os.utime(mark, ns=(time_ns, time_ns))
        return
    os.utime(place, ns=(time_ns, time_ns), follow_symlinks=False)
    content = workspace.content(path)
    if content is not None and content.nfiles is None and not place.is_symlink():
        workspace.hashes.remember(path, content)
