"""The jobs that Snakemake and DVC each define, in a common form, and the jobs that each would run.

Both engines agree on a job's name, its command, the files that it reads and writes, and the
parameters that it depends on.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carbench.core.params import lookup, read_yaml
from carbench.engines.dvc_internals import dvc_repo
from carbench.engines.dvc_yaml import PARAMS, one_line
from carbench.engines.snakemake_internals import snakemake_dag


@dataclass(frozen=True)
class EngineJob:
    """A job as one engine defines it; paths are relative to the repository, POSIX style."""

    name: str
    command: str
    inputs: frozenset[str]
    outputs: frozenset[str]
    params: dict[str, Any]


def snakemake_jobs(root: Path) -> dict[str, EngineJob]:
    """Return all jobs of the Snakefile's default target by name (``train@resnet-0``)."""
    with snakemake_dag(root) as dag:
        jobs = [_from_snakemake(job) for job in dag.jobs if job.rule.shellcmd]
    return {job.name: job for job in jobs}


def snakemake_plan(root: Path) -> set[str]:
    """Return the names of the jobs that `snakemake` would run now."""
    with snakemake_dag(root) as dag:
        return {snakemake_job_name(job) for job in dag.needrun_jobs() if job.rule.shellcmd}


def dvc_jobs(root: Path) -> dict[str, EngineJob]:
    """Return all stages of dvc.yaml by name."""
    with dvc_repo(root) as repo:
        return {stage.addressing: _from_dvc(stage, root) for stage in repo.index.stages}


def dvc_plan(root: Path) -> set[str]:
    """Return the names of the stages that are stale, and of all stages downstream of them.

    `dvc repro` may run fewer: it skips a stage if the outputs that it reads did not change.
    """
    import networkx

    with dvc_repo(root) as repo:
        graph = repo.index.graph  # edges lead from a stage to its dependencies
        stale = {stage for stage in repo.index.stages if stage.status()}
        downstream = {stage for origin in stale for stage in networkx.ancestors(graph, origin)}
        return {stage.addressing for stage in stale | downstream}


def snakemake_job_name(job: Any) -> str:
    """Return the name that DVC gives to the same job: ``stage@item-item``."""
    return "@".join(filter(None, [job.rule.name, "-".join(job.wildcards_dict.values())]))


def _from_snakemake(job: Any) -> EngineJob:
    return EngineJob(
        snakemake_job_name(job),
        job.shellcmd,
        frozenset(str(path) for path in job.input),
        frozenset(str(path) for path in job.output),
        json.loads(job.params.get("choices", "{}")),
    )


def _from_dvc(stage: Any, root: Path) -> EngineJob:
    from dvc.dependency import ParamsDependency

    params = {}
    for dependency in stage.deps:
        if isinstance(dependency, ParamsDependency):
            file = _relative_path(dependency, root)
            for name in dependency.params:
                key = name if file == str(PARAMS) else f"{file}:{name}"
                params[key] = lookup(read_yaml(root / file), name, root / file)
    commands = [stage.cmd] if isinstance(stage.cmd, str) else stage.cmd
    return EngineJob(
        stage.addressing,
        " && ".join(map(one_line, commands)),
        frozenset(
            _relative_path(dependency, root)
            for dependency in stage.deps
            if not isinstance(dependency, ParamsDependency)
        ),
        frozenset(_relative_path(output, root) for output in stage.outs),
        params,
    )


def _relative_path(item: Any, root: Path) -> str:
    return Path(os.path.relpath(item.fs_path, root)).as_posix()
