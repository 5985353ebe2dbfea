"""split: deal the duplicate groups to train, val and test.

Writes ``split.csv``: a row a picture with its class, group, part, and whether it is a leaked test
picture (one with a twin in train or val).
"""

from collections import Counter
from pathlib import Path

from carbench.params.split import SplitParams
from carbench.splitting import Picture, assign
from carbench.stage import Stage, log, run_stage, stage_parser
from carbench.tables import read_table, write_table


def split(stage: Stage) -> None:
    params = stage.params("split", SplitParams)
    pictures = [
        Picture(row["image"], row["class"], row["published"], int(row["group"]))
        for row in read_table(stage.args.groups)
    ]
    assignments = assign(pictures, params)
    with stage.output(stage.args.output) as path:
        write_table(
            path,
            ["image", "class", "group", "split", "leaked"],
            (
                {
                    "image": picture.image,
                    "class": picture.label,
                    "group": picture.group,
                    "split": assignment.split,
                    "leaked": int(assignment.leaked),
                }
                for picture, assignment in zip(pictures, assignments, strict=True)
            ),
        )
    counts = Counter(
        "leaked test" if assignment.leaked else assignment.split for assignment in assignments
    )
    log.info("%s", ", ".join(f"{count:,} {part}" for part, count in sorted(counts.items())))


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--groups", type=Path, required=True, help="audit's groups.csv")
    parser.add_argument("--output", type=Path, required=True, help="split.csv to write")
    run_stage(parser, split)
