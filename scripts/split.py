"""split: assign the duplicate groups to train, val and test.

Writes ``split.csv`` (one row per image: its class, group, set, and whether it is a leaked test
image, one with a duplicate in train or val), ``doubtful.csv`` (each clean test image, with the most
similar image on the other side of the split) and ``residual.json`` (the manual verdicts on these
pairs, and how many duplicates may remain). With ``split.repeats`` above 1, the columns ``split_1``,
``split_2`` and so on of ``split.csv`` hold the other splits.
"""

from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from carbench.core.columns import texts, write_columns
from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import write_json, write_table
from carbench.data.split.assignment import assign_images, read_groups
from carbench.data.split.table import split_column
from carbench.data.split.undetected_duplicates import (
    ClosestPair,
    closest_pairs,
    estimate_residual,
    read_candidates,
)
from carbench.params.split import SplitParams


def split(stage: Stage) -> None:
    params = stage.params("split", SplitParams)
    images = read_groups(stage.args.audit / "groups.csv")
    splits = [assign_images(images, params, repeat) for repeat in range(params.repeats)]
    assignments = splits[0]  # exclusion and leakage do not depend on the repeat
    others = [split_column(number) for number in range(1, params.repeats)]
    candidates = read_candidates(stage.args.audit / "candidates.csv")
    pairs, without_candidate = closest_pairs(images, assignments, candidates, params.seed)
    columns = {
        "image": images.images,
        "class": texts(images.classes)[images.labels],
        "group": images.groups,
        "split": assignments.splits,
        "leaked": assignments.leaked.astype(np.int8),
        **{name: each.splits for name, each in zip(others, splits[1:], strict=True)},
    }
    with stage.outputs(stage.args.output) as out:
        write_columns(out / "split.csv", columns)
        write_table(
            out / "doubtful.csv",
            [field.name for field in fields(ClosestPair)],
            (
                asdict(each) | {"mirrored": int(each.mirrored), "doubtful": int(each.doubtful)}
                for each in pairs
            ),
        )
        write_json(out / "residual.json", estimate_residual(pairs, without_candidate))
    counts = Counter(assignments.splits[~assignments.leaked].tolist())
    counts["leaked test"] = int(assignments.leaked.sum())
    times = f", split {params.repeats} times" if params.repeats > 1 else ""
    summary = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if count)
    log.info("%s%s", summary, times)
    waiting = sum(each.doubtful and not each.verdict for each in pairs)
    if waiting:
        log.info("doubtful pairs that need manual review: %d (`carbench audit review`)", waiting)


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--audit", type=Path, required=True, help="output of audit")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, split)
