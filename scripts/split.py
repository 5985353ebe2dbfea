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

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import read_table, write_json, write_table
from carbench.data.audit.verdicts import OTHER
from carbench.data.split.assignment import GroupedImage, assign_images
from carbench.data.split.table import split_column
from carbench.data.split.undetected_duplicates import (
    CandidatePair,
    ClosestPair,
    ImageFile,
    closest_pairs,
    estimate_residual,
)
from carbench.params.split import SplitParams


def split(stage: Stage) -> None:
    params = stage.params("split", SplitParams)
    rows = read_table(stage.args.audit / "groups.csv")
    images = [
        GroupedImage(row["image"], row["class"], row["published"], int(row["group"]))
        for row in rows
    ]
    splits = [assign_images(images, params, repeat) for repeat in range(params.repeats)]
    assignments = splits[0]  # exclusion and leakage do not depend on the repeat
    others = [split_column(number) for number in range(1, params.repeats)]
    candidates = [
        CandidatePair(
            row["first"],
            row["second"],
            float(row["agreement"]),
            row["mirrored"] == "1",
            row["kind"] != OTHER,  # a near duplicate that was cut from its group is doubtful, too
            row["verdict"],
        )
        for row in read_table(stage.args.audit / "candidates.csv")
    ]
    files = [ImageFile(row["image"], int(row["exact"])) for row in rows]
    pairs, without_candidate = closest_pairs(files, assignments, candidates, params.seed)
    with stage.outputs(stage.args.output) as out:
        write_table(
            out / "split.csv",
            ["image", "class", "group", "split", "leaked", *others],
            (
                {
                    "image": image.image,
                    "class": image.label,
                    "group": image.group,
                    "split": assignment.split,
                    "leaked": int(assignment.leaked),
                    **{name: each.split for name, each in zip(others, further, strict=True)},
                }
                for image, assignment, *further in zip(images, *splits, strict=True)
            ),
        )
        write_table(
            out / "doubtful.csv",
            [field.name for field in fields(ClosestPair)],
            (
                asdict(each) | {"mirrored": int(each.mirrored), "doubtful": int(each.doubtful)}
                for each in pairs
            ),
        )
        write_json(out / "residual.json", estimate_residual(pairs, without_candidate))
    counts = Counter(
        "leaked test" if assignment.leaked else assignment.split for assignment in assignments
    )
    times = f", split {params.repeats} times" if params.repeats > 1 else ""
    summary = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    log.info("%s%s", summary, times)
    waiting = sum(each.doubtful and not each.verdict for each in pairs)
    if waiting:
        log.info("doubtful pairs that need manual review: %d (`carbench audit review`)", waiting)


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--audit", type=Path, required=True, help="output of audit")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, split)
