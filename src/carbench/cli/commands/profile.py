"""carbench profile JOB...: where a step of a training run goes, without training it.

A job is one of stage train, such as train@resnet-0. A few of its steps are trained with the torch
profiler, and then a validation; their result is discarded. Nothing in results/ changes, and no job
becomes stale.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from carbench.cli.commands.why import jobs_of_target
from carbench.core.errors import CarbenchError
from carbench.engines.job_folders import profile_folder
from carbench.engines.sync import open_workspace

STAGE = "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("jobs", nargs="+", metavar="JOB", help="jobs of stage train")


def run(args: argparse.Namespace) -> int:
    """Profile one job after the other; return the exit status of the first that fails, else 0."""
    workspace = open_workspace(Path())
    names = [name for target in args.jobs for name in jobs_of_target(workspace.jobs, target)]
    for name in dict.fromkeys(names):
        job = workspace.jobs[name]
        if job.stage != STAGE:
            raise CarbenchError(
                name,
                found=f"a job of stage {job.stage}",
                expected=f"a training run: a job of stage {STAGE}",
                fix=f"name one, such as {STAGE}@NAME-SEED",
            )
        if missing := next(workspace.missing_inputs(job), None):
            raise CarbenchError(
                missing,
                found="nothing",
                expected=f"an input of {name}",
                fix="run `snakemake --until tune`, or `dvc repro tune`",
            )
        # Not the command of a job: it runs without lock, record and outputs, and without its log.
        _, *command = shlex.split(job.command)
        at = command.index("--log")
        del command[at : at + 2]
        command += ["--profile", str(profile_folder(workspace.root, name))]
        if status := subprocess.run([sys.executable, *command]).returncode:
            return status
    return 0
