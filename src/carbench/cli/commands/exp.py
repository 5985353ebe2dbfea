"""carbench exp save -n NAME: make what lies in results/ an experiment of DVC, if it is up_to_date.

`dvc exp save` records whatever lies there, also results of other parameters or half of a run.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.engines.staleness import require_up_to_date
from carbench.engines.sync import job_statuses, open_cleaned_workspace, sync_to_dvc

log = logging.getLogger("carbench")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    save = actions.add_parser("save", help="save up_to_date results as an experiment of DVC")
    save.add_argument("-n", "--name", help="of the experiment (default: DVC makes one up)")
    save.add_argument("-m", "--message", help="of its commit")
    save.add_argument("-f", "--force", action="store_true", help="replace one of that name")


def exists(name: str) -> bool:
    """Say whether the commit that is checked out has an experiment of this name."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    commit = head.stdout.strip()
    reference = f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"
    shown = subprocess.run(["git", "show-ref", "--quiet", "--verify", reference], check=False)
    return shown.returncode == 0


def run(args: argparse.Namespace) -> int:
    """Save, or say what is not up_to_date.

    Raises:
        CarbenchError: a job's outputs are missing or not what it would make today, or there is an
            experiment of that name.
    """
    if args.name and not args.force and exists(args.name):
        raise CarbenchError(
            args.name,
            found="an experiment of this name, from the same commit",
            expected="a new name",
            fix=f"choose another one, or replace it: carbench exp save -n {args.name} --force",
        )
    workspace = open_cleaned_workspace(Path())
    statuses = job_statuses(workspace)
    require_up_to_date(workspace, statuses)
    sync_to_dvc(workspace, statuses)
    command = ["dvc", "exp", "save"]
    command += ["--name", args.name] if args.name else []
    command += ["--message", args.message] if args.message else []
    command += ["--force"] if args.force else []
    # Small results that git keeps and nobody has added yet are part of the experiment, too.
    for job in workspace.jobs.values():
        for path in sorted(set(job.outs) - job.cached):
            command += ["--include-untracked", path]
    return subprocess.run(command, check=False).returncode
