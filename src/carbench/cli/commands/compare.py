"""carbench compare: test whether experiments differ significantly, and by how much.

Takes DVC experiments, branches, tags, commits or ``workspace``. Their predictions are paired on
the clean test images that both have, and compared with the statistics of stage aggregate.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbench.core.errors import CarbenchError

if TYPE_CHECKING:
    from carbench.engines.revisions import Revision


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "experiments",
        metavar="EXP",
        nargs="+",
        help="a DVC experiment, a branch, tag or commit, or `workspace`. A single one is "
        "compared with the workspace; of several, the first is the reference",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the numbers to this file, or with `-` print them instead of the text",
    )


def run(args: argparse.Namespace) -> int:
    """Compare and print; return 0, whether the experiments differ or not.

    Raises:
        CarbenchError: an experiment is unknown or given twice, its results are missing or cannot
            be fetched, it shares no image with the reference, or the workspace is not up to date.
    """
    # Imported here because pandas and scipy would slow down `--help`.
    from carbench.cli.experiments.formatting import changed_params, document, text
    from carbench.cli.experiments.loading import read_experiment, read_params
    from carbench.core.params import lookup, read_section, read_yaml
    from carbench.engines.dvc_yaml import DEFINITION
    from carbench.engines.revisions import WORKSPACE, open_revision
    from carbench.engines.staleness import require_up_to_date
    from carbench.engines.sync import job_statuses, open_workspace
    from carbench.params.aggregate import AggregateParams
    from carbench.statistics.experiment_comparison import compare_experiments

    names = args.experiments if len(args.experiments) > 1 else [WORKSPACE, *args.experiments]
    _refuse_repeated(names)
    if WORKSPACE in names and DEFINITION.is_file():
        workspace = open_workspace(Path())
        require_up_to_date(workspace, job_statuses(workspace))
    params = read_section(Path("params.yaml"), "aggregate", AggregateParams)
    margin = float(lookup(read_yaml(Path("params.yaml")), "choose.margin", Path("params.yaml")))
    revisions = [open_revision(name) for name in names]
    settings = [read_params(revision) for revision in revisions]
    experiments = [
        read_experiment(revision, own) for revision, own in zip(revisions, settings, strict=True)
    ]
    comparisons = compare_experiments(experiments[0], experiments[1:], params.confidence, margin)
    changes = [changed_params(settings[0], own) for own in settings[1:]]
    if args.json:
        first, *rest = [_metrics(revision) for revision in revisions]
        documents = [
            document(comparison, changed, (first, metrics))
            for comparison, changed, metrics in zip(comparisons, changes, rest, strict=True)
        ]
        _write(
            args.json,
            {
                "unit": "percentage points",
                "confidence": params.confidence,
                "margin": 100 * margin,
                "comparisons": documents,
            },
        )
    if args.json != "-":
        texts = [
            text(comparison, changed, params.confidence)
            for comparison, changed in zip(comparisons, changes, strict=True)
        ]
        sys.stdout.write("\n\n\n".join(texts) + "\n")
    return 0


def _refuse_repeated(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise CarbenchError(
                f"carbench compare {' '.join(names)}",
                found=f"{name} twice (a single one is compared with the workspace)",
                expected="different experiments",
                fix="specify another experiment or commit",
            )


def _metrics(revision: Revision) -> Any:
    path = "results/metrics.json"
    try:
        return json.loads(revision.read(path))
    except ValueError as error:
        raise CarbenchError(
            revision.where(path),
            found=f"no readable JSON ({error})",
            expected="the output of stage aggregate",
            fix="run the study again",
        ) from None


def _write(path: str, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if path == "-":
        sys.stdout.write(text)
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CarbenchError(
            path,
            found=f"a path that cannot be written to ({error.strerror})",
            expected="a file in a folder that exists",
            fix="specify another file, or `--json -` to print the numbers",
        ) from None
