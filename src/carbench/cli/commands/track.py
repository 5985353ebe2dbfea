"""carbench track --to TRACKER: send training curves and results to an experiment tracker.

Follows a running or finished study from a process of its own: one run per training job, with its
parameters, its metrics per epoch as they happen, its test metrics, provenance and weights, and one
run `study` with the figures, the report and the exported model. Started again, it goes on where it
stopped. Each tracker is an extra: `pip install 'carbench[mlflow]'`.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.engines.locks import named_lock
from carbench.tracking.trackers import MODULES, Destination, open_tracker

INTERVAL = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--to", required=True, choices=list(MODULES), help="the tracker")
    parser.add_argument(
        "--watch", action="store_true", help="go on until all jobs of the study are up to date"
    )
    parser.add_argument(
        "--address",
        metavar="URI|FOLDER",
        help="mlflow: tracking URI (default: MLFLOW_TRACKING_URI, else MLflow's own default); "
        "dvclive, tensorboard: folder to write to (default: dvclive, runs)",
    )
    parser.add_argument(
        "--project",
        metavar="NAME",
        help="experiment in MLflow, project in W&B (default: the name of this folder)",
    )
    parser.add_argument(
        "--without-models",
        action="store_true",
        help="do not send weights and the exported model, the largest files",
    )
    parser.add_argument(
        "--interval",
        type=float,
        default=INTERVAL,
        metavar="SECONDS",
        help="with --watch: time between looks at the study (default: %(default)g)",
    )


def run(args: argparse.Namespace) -> int:
    """Send the study.

    Raises:
        CarbenchError: the tracker is not installed or cannot be reached, or another process sends
            the study to it.
    """
    # Imported here because it takes a second.
    from carbench.tracking.follow import Follower, destination_name, follow

    root = Path()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    destination = Destination(root, args.project or root.resolve().name, args.address)
    tracker = open_tracker(args.to, destination)
    follower = Follower(root, tracker, models=not args.without_models)
    try:
        with named_lock(root, f"track-{destination_name(tracker)}", on_wait=None):
            try:
                if args.watch:
                    follow(follower, args.interval)
                else:
                    follower.send()
            finally:
                follower.close()
    except BlockingIOError as error:
        raise CarbenchError(
            f"carbench track --to {args.to}",
            found=f"that {error.strerror} sends this study to {tracker.address} already",
            expected="one process per study and tracker",
            fix="let that one run, or stop it first",
        ) from None
    return 0
