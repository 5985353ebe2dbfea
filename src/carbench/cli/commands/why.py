"""carbench why TARGET...: explain why a job would run again, in either engine.

A target is a job (train@resnet-0), a stage (train) or an output file of a job.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.engines.dvc_yaml import JobSpec
from carbench.engines.staleness import direct_upstream, explain_job
from carbench.engines.sync import job_statuses, open_workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "targets", nargs="*", help="jobs, stages or files (default: all stale jobs)"
    )


def run(args: argparse.Namespace) -> int:
    """Print one explanation per job."""
    workspace = open_workspace(Path())
    statuses = job_statuses(workspace)
    upstream = direct_upstream(workspace.jobs)
    targets = [target for target in args.targets if target not in workspace.unsupported_stages]
    for stage in args.targets:
        if reason := workspace.unsupported_stages.get(stage):
            print(f"{stage} has no records, because it uses {reason}; see DVC and Snakemake.")  # noqa: T201
    if args.targets:
        names = [name for target in targets for name in jobs_of_target(workspace.jobs, target)]
    else:
        names = [name for name, status in statuses.items() if not status.up_to_date]
    for name in dict.fromkeys(names):
        print(explain_job(workspace, statuses, name, upstream))  # noqa: T201
    if not names and not args.targets:
        print("Nothing would run again.")  # noqa: T201
    return 0


def jobs_of_target(jobs: Mapping[str, JobSpec], target: str) -> list[str]:
    """Return the names of the jobs that a target refers to.

    Raises:
        CarbenchError: there are none.
    """
    path = target.removeprefix("./").rstrip("/")
    names = [
        name
        for name, job in jobs.items()
        if target in (name, job.stage)
        or any(out == path or out.startswith(f"{path}/") for out in job.outs)
    ]
    if not names:
        raise CarbenchError(
            target,
            found="no such job",
            expected=f"a stage ({', '.join(dict.fromkeys(job.stage for job in jobs.values()))}), "
            "one of its jobs such as train@NAME-SEED, or an output file of a job",
            fix="correct the name; `dvc stage list` lists all jobs",
        )
    return names
