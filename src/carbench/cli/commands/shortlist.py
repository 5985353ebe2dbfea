"""carbench shortlist: write the shortlisted candidates into params.yaml as backbones.

Only the section `backbones:` of params.yaml changes. A shortlisted backbone that is already there
keeps its name and its `train:`; `--keep` also keeps backbones that are not shortlisted.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--keep", action="store_true", help="keep the backbones that are not on the shortlist"
    )


def run(args: argparse.Namespace) -> int:
    """Write the backbones and print them.

    Raises:
        CarbenchError: the shortlist is empty or stale; params.yaml is not changed.
    """
    from carbench.engines.staleness import direct_upstream, require_up_to_date
    from carbench.engines.sync import job_statuses, open_workspace
    from carbench.screening.write_backbones import write_backbones

    workspace = open_workspace(Path())
    statuses = job_statuses(workspace)
    upstream = direct_upstream(workspace.jobs)
    names = ["shortlist"]
    for name in names:  # grows: jobs that these read, directly or not
        names += [each for each in upstream[name] if each not in names]
    require_up_to_date(workspace, {name: statuses[name] for name in reversed(names)})
    path = Path("params.yaml")
    table = Path("results/shortlist/shortlist.csv")
    written = write_backbones(path, table, Path(workspace.value("screen.weights")), args.keep)
    for name, (model, start) in written.items():
        print(f"{path}: backbones.{name}: {model}, {start}")  # noqa: T201
    return 0
