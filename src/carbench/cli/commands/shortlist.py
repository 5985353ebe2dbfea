"""carbench shortlist: write the candidates of the shortlist into params.yaml as backbones.

Of params.yaml only the section `backbones:` changes. A backbone that is there already and is on the
shortlist keeps its name and its own `train:`; `--keep` also keeps those that are not on it.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "--keep", action="store_true", help="keep the backbones that are not on the shortlist"
    )


def run(args: argparse.Namespace) -> int:
    """Write the shortlist, and say what was written.

    Raises:
        CarbenchError: nothing is on the shortlist, or it is not that of today's parameters, code
            and images; params.yaml is as it was.
    """
    from carbench.engines.sync import open_workspace, prove_all
    from carbench.engines.why import refuse_unproven, upstream
    from carbench.screening.write_backbones import write_backbones

    workspace = open_workspace(Path())
    proofs = prove_all(workspace)
    above = upstream(workspace.jobs)
    names = ["shortlist"]
    for name in names:  # grows: jobs that these read, directly or not
        names += [each for each in above[name] if each not in names]
    refuse_unproven(workspace, {name: proofs[name] for name in reversed(names)})
    path = Path("params.yaml")
    table = Path("results/shortlist/shortlist.csv")
    written = write_backbones(path, table, Path(workspace.value("screen.weights")), args.keep)
    for name, (model, start) in written.items():
        print(f"{path}: backbones.{name}: {model}, {start}")  # noqa: T201
    return 0
