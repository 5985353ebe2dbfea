"""carbench job: run one job on this machine, for a study on another one.

The machines share only a DVC remote (a bucket, for instance). What the job reads is fetched from
there, the same command line is run, and its outputs are pushed. `carbench sync --remote`, or a
`snakemake` with workflow/profiles/remote, takes the result on the other machine.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.engines.sync import open_workspace
from carbench.remote.bucket import Bucket
from carbench.remote.checkpoints import INTERVAL
from carbench.remote.requests import make_request, read_request, store_inputs
from carbench.remote.results import require_inputs
from carbench.remote.worker import run_request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", help="the job, such as train@resnet-0 (`dvc stage list`)")
    parser.add_argument(
        "--remote", required=True, help="a remote of .dvc/config, or its URL or folder"
    )
    parser.add_argument(
        "--inputs",
        metavar="KEY",
        help="run what `snakemake` has requested with this hash of the inputs, instead of the job "
        "as this clone's params.yaml has it",
    )
    parser.add_argument(
        "--again", action="store_true", help="run even if the remote has the result"
    )
    parser.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=INTERVAL,
        help="time between copies of checkpoints to the remote (default: %(default).0f)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the job; return its exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # `ssh -tt` sends the second one
        signal.signal(number, signal.default_int_handler)
    root = Path()
    workspace = open_workspace(root)
    bucket = Bucket(root, args.remote, workspace.store)
    if args.inputs:
        request = read_request(bucket, args.name, args.inputs)
    else:
        job = workspace.jobs.get(args.name)
        if job is None:
            raise CarbenchError(
                args.name,
                found="no such job",
                expected="a job of dvc.yaml with this params.yaml",
                fix="list them with `dvc stage list`",
            )
        request = make_request(workspace, job, require_inputs(workspace, bucket, job))
        store_inputs(workspace, request)
    return run_request(root, bucket, request, args.again, args.checkpoint_seconds)
