"""Measure how well the list of probable label errors finds labels that were changed on purpose.

Run in the folder of a finished study: `python benchmarks/label_errors.py` changes the labels of
some evaluated images (val and clean test) to a random other class, lists probable label errors by
the chosen backbone's probabilities, and prints precision and recall as Markdown. The training
labels are unchanged. Images that are listed without any change are counted, too; some of them may
be errors of the publisher, so the precision is a lower bound.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from carbench.core.params import lookup, read_yaml
from carbench.core.tables import read_table
from carbench.statistics.evaluated_runs import EvaluatedRuns, read_runs
from carbench.statistics.label_error_table import label_error_table

Labels = dict[str, str]


def with_labels(
    runs: EvaluatedRuns, train: Path, backbone: str, labels: Labels, folder: Path
) -> EvaluatedRuns:
    """Return the runs with changed labels; their val predictions are written to ``folder``."""
    for seed in runs.seeds:
        place = folder / backbone / str(seed)
        place.mkdir(parents=True, exist_ok=True)
        rows = read_table(train / backbone / str(seed) / "val.csv")
        lines = [",".join(rows[0])]
        lines += [",".join((row | {"class": labels[row["image"]]}).values()) for row in rows]
        (place / "val.csv").write_text("\n".join(lines) + "\n")
    predictions = {
        name: [
            table.assign(**{"class": [labels[image] for image in table["image"]]})
            for table in tables
        ]
        for name, tables in runs.predictions.items()
    }
    return replace(runs, predictions=predictions)


def main() -> None:
    """Change labels and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20, help="repeats per row")
    arguments = parser.parse_args()
    params, results = Path("params.yaml"), Path("results")
    content = read_yaml(params)
    choice = read_table(results / "choose/choice.csv")
    (backbone,) = (row["backbone"] for row in choice if row["chosen"] == "1")
    runs = read_runs(results / "evaluate", [backbone], lookup(content, "seeds", params))
    given: Labels = {}
    for seed, table in zip(runs.seeds, runs.predictions[backbone], strict=True):
        given |= dict(zip(table["image"], table["class"], strict=True))
        val = read_table(results / "train" / backbone / str(seed) / "val.csv")
        given |= {row["image"]: row["class"] for row in val}
    leaked = runs.aligned.images["leaked"]
    evaluated = [image for image in given if not leaked.get(image, 0)]
    classes = runs.aligned.classes
    rng = np.random.default_rng(0)
    print(f"{backbone}, {len(evaluated)} evaluated images, {len(classes)} classes\n")
    heads = ("of the listed, changed", "of the changed, listed", "of the first ten, changed")
    print(f"| labels changed | listed | {' | '.join(heads)} |")
    print("|--:|--:|--:|--:|--:|")
    for share in (0.0, 0.01, 0.03, 0.1):
        found = []
        for _ in range(arguments.repeats if share else 1):
            changed = set(rng.permutation(evaluated)[: round(share * len(evaluated))])
            labels = given | {
                image: rng.choice([name for name in classes if name != given[image]])
                for image in sorted(changed)
            }
            with tempfile.TemporaryDirectory() as folder:
                other = with_labels(runs, results / "train", backbone, labels, Path(folder))
                listed = list(label_error_table(other, Path(folder), backbone)["image"])
            hits = len(changed & set(listed))
            first = len(changed & set(listed[:10])) / 10
            found.append(
                (len(listed), hits / max(len(listed), 1), hits / max(len(changed), 1), first)
            )
        count, precision, recall, first = np.mean(found, axis=0)
        cells = (
            [f"{100 * precision:.0f} %", f"{100 * recall:.0f} %", f"{100 * first:.0f} %"]
            if share
            else ["", "", ""]
        )
        print(f"| {100 * share:.0f} % | {count:.0f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
