"""Modification times of results, adjusted so that Snakemake does not count current ones as stale.

Snakemake cannot be configured to compare content only: an input that is newer than an output counts
as changed, and a job whose input has a time in the future fails.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from carbench.engines.code_fingerprint import is_code
from carbench.engines.dvc_yaml import JobSpec
from carbench.engines.workspace import JobStatus, Workspace


def raise_mtimes(workspace: Workspace, statuses: Mapping[str, JobStatus]) -> None:
    """Make the outputs of up-to-date jobs at least as new as their inputs.

    Times in the future, for instance after the clock was set back, are replaced by the current
    time.
    """
    now = time.time_ns()
    as_output: dict[str, int] = {}
    as_input: dict[str, int] = {}
    outputs_in: dict[str, list[str]] = {}
    for path in (path for status in statuses.values() for path in status.job.outs):
        if (times := _mtimes(workspace.root / path)) is None:
            continue
        if max(times) > now:
            _set_mtime(workspace, path, now)
            times = (now, now)
        as_output[path], as_input[path] = times
        for parent in Path(path).parents:
            outputs_in.setdefault(parent.as_posix(), []).append(path)
    for status in statuses.values():  # dvc.yaml lists jobs after those that they depend on
        if not status.up_to_date:
            continue
        newest = 0
        for dep in status.job.deps:
            if is_code(dep):
                continue
            for path in [dep] if dep in as_input else outputs_in.get(dep, [dep]):
                if path not in as_input:
                    as_input[path] = (_mtimes(workspace.root / path) or (0, 0))[1]
                newest = max(newest, as_input[path])
        for path in status.job.outs:
            if as_output.get(path, newest) < newest:
                _set_mtime(workspace, path, newest)
                as_output[path] = newest
                as_input[path] = max(as_input[path], newest)
        benchmark = _benchmark_file(workspace.root, status.job)
        if benchmark and (_mtimes(benchmark) or (newest, newest))[0] < newest:
            os.utime(benchmark, ns=(newest, newest))


def _benchmark_file(root: Path, job: JobSpec) -> Path | None:
    """Return the file of Snakemake's measurements of a job, which counts as one of its outputs."""
    log = re.search(r" --log results/logs/(\S+)\.log$", job.command)
    return root / f"results/benchmarks/{log[1]}.tsv" if log else None


def _mtimes(path: Path) -> tuple[int, int] | None:
    """Return a file's modification time as Snakemake reads it for an output and for an input.

    For an output, a link's own time counts; for an input, the newer of the link's and its target's.
    For a folder, the time of Snakemake's marker file in it counts.
    """
    try:
        link, target = path.lstat(), path.stat()
    except FileNotFoundError:
        return None
    if path.is_dir():
        marker = path / ".snakemake_timestamp"
        link = target = marker.stat() if marker.exists() else target
    return link.st_mtime_ns, max(link.st_mtime_ns, target.st_mtime_ns)


def _set_mtime(workspace: Workspace, name: str, time_ns: int) -> None:
    path = workspace.root / name
    marker = path / ".snakemake_timestamp"
    if marker.exists():
        os.utime(marker, ns=(time_ns, time_ns))
        return
    os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)
    content = workspace.content(name)
    if content is not None and content.nfiles is None and not path.is_symlink():
        workspace.hashes.update(name, content)
