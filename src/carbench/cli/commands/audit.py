"""carbench audit review: prepare the audit's doubtful pairs for review by a person.

Writes contact sheets of the doubtful pairs between training and test images and of a random sample
of the other pairs, and reviewed.csv, in which a person enters "same" or "different" for each pair.
If `audit.reviewed` is set to that file, groups, split and leakage follow the verdicts. Earlier
verdicts stay in the file.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    review = actions.add_parser("review", help="prepare doubtful pairs for review")
    review.add_argument(
        "--output", type=Path, default=Path("review"), help="folder to write to (default: review)"
    )
    review.add_argument(
        "--sample",
        type=int,
        default=60,
        help="number of pairs that are not doubtful, chosen at random (default: 60)",
    )
    review.add_argument(
        "--found",
        action="store_true",
        help="review the pairs that the audit found, the least similar first, to reject wrong ones",
    )


def run(args: argparse.Namespace) -> int:
    """Write the sheets and the CSV, and print the next step.

    Raises:
        CarbenchError: the results do not match the current parameters, code and images.
    """
    from carbench.data.audit.review_sheets import write_review
    from carbench.engines.staleness import require_up_to_date
    from carbench.engines.sync import job_statuses, open_workspace

    workspace = open_workspace(Path())
    statuses = job_statuses(workspace)
    require_up_to_date(workspace, {name: statuses[name] for name in ("fetch", "audit", "split")})
    reviewed = Path(workspace.value("audit.reviewed"))
    review = write_review(Path("results"), args.output, reviewed, args.sample, args.found)
    table = args.output / "reviewed.csv"
    if not review.waiting:
        print(f"{table}: every pair has a verdict ({review.reviewed}).")  # noqa: T201
        return 0
    print(  # noqa: T201
        f"{table}: {review.waiting} pairs to review, shown in "
        f"{', '.join(map(str, review.sheets))}.\n"
        'Write "same" or "different" in the column verdict, set `audit.reviewed` to this file in '
        "params.yaml, and run again."
    )
    return 0
