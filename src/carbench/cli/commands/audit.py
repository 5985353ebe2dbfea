"""carbench audit review: lay the audit's doubtful pairs out for a person to judge.

Writes contact sheets of the doubtful pairs between the images that judge and those that train,
and of a random sample of the rest, and reviewed.csv, in which a person writes "same" or "different"
behind each. With `audit.reviewed` set to that file the groups, the split and the leak follow.
Verdicts that were given before stay in the file.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    actions = parser.add_subparsers(dest="action", required=True)
    review = actions.add_parser("review", help="lay doubtful pairs out for a person to judge")
    review.add_argument(
        "--output", type=Path, default=Path("review"), help="folder to write to (default: review)"
    )
    review.add_argument(
        "--sample",
        type=int,
        default=60,
        help="so many of the pairs that are not doubtful, at random (default: 60)",
    )
    review.add_argument(
        "--found",
        action="store_true",
        help="instead the pairs that the audit found, from the least alike: to reject wrong ones",
    )


def run(args: argparse.Namespace) -> int:
    """Write the sheets and the CSV, and say what to do with them.

    Raises:
        CarbenchError: the results are not those of today's parameters, code and images.
    """
    from carbench.data.audit.review_sheets import write_review
    from carbench.engines.sync import open_workspace, prove_all
    from carbench.engines.why import refuse_unproven

    workspace = open_workspace(Path())
    proofs = prove_all(workspace)
    refuse_unproven(workspace, {name: proofs[name] for name in ("fetch", "audit", "split")})
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
