"""Where a backbone is strong and weak: by class, by slice of the pictures, under corruptions."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from carbench.judging.slices import sliced
from carbench.statistics.answers import COLUMNS, read_tables
from carbench.statistics.bootstrap import Bootstrap
from carbench.statistics.intervals import Interval, difference_interval, share_interval
from carbench.statistics.runs import Runs
from carbench.statistics.scoring import ClassScores, part_scores
from carbench.statistics.summarizing import named


def recall_table(runs: Runs, scores: dict[str, ClassScores], confidence: float) -> pd.DataFrame:
    """Return recall.csv: a row a backbone and class that has clean test pictures."""
    counts = np.bincount(runs.answers.labels[runs.clean], minlength=len(runs.answers.classes))
    rows = [
        {"backbone": name, "class": label, "images": counts[index]}
        | named(
            "recall", share_interval(scores[name].recall(index).estimate(), confidence), short=True
        )
        for name in runs.backbones
        for index, label in enumerate(runs.answers.classes)
        if counts[index]
    ]
    return pd.DataFrame(rows)


def slice_table(runs: Runs, bootstrap: Bootstrap, confidence: float) -> pd.DataFrame:
    """Return slices.csv: accuracies on the thirds of the clean pictures by size of their file."""
    clean = np.flatnonzero(runs.clean)
    pictures = runs.answers.pictures.iloc[clean]
    records = pictures[["class", "width", "height"]].to_dict("records")
    parts = sliced([{str(key): value for key, value in row.items()} for row in records], "size")
    members = np.zeros((len(parts), len(runs.clean)), np.bool_)
    for row, own in zip(members, parts.values(), strict=True):
        row[clean[own]] = True
    rows = []
    for name in runs.backbones:
        tested = members[:, None] & runs.answers.tested(name)
        scores = part_scores(bootstrap, runs.answers.right(name), tested)
        for value, row, score in zip(parts, members, scores, strict=True):
            interval = share_interval(score.estimate(), confidence)
            rows.append(
                {"backbone": name, "slice": "size", "value": value, "images": int(row.sum())}
                | named("accuracy", interval, short=True)
            )
    return pd.DataFrame(rows)


def robustness_table(runs: Runs, bootstrap: Bootstrap, confidence: float) -> pd.DataFrame:
    """Return robustness.csv: accuracy under each corruption and the drop to the clean pictures.

    Corruption ``none`` stands first. There are no rows where evaluate corrupted nothing.
    """
    columns = ["backbone", "corruption", "accuracy", "low", "high"]
    columns += named("drop", Interval(0.0, 0.0, 0.0))
    places = {
        name: [folder / "robustness.csv" for folder in own] for name, own in runs.folders.items()
    }
    tables = read_tables(places, (*COLUMNS, "corruption"))
    names = list(next(iter(tables.values()))[0]["corruption"].unique())
    rows = []
    for backbone, own in tables.items() if names else ():
        tested = np.broadcast_to(
            runs.clean & runs.answers.tested(backbone),
            (len(names) + 1, len(own), len(runs.clean)),
        )
        right = [runs.answers.right(backbone)]
        for corruption in names:
            right.append(_right(runs, [table[table["corruption"] == corruption] for table in own]))
        clean, *corrupted = part_scores(bootstrap, np.stack(right), tested)
        for corruption, score in zip(["none", *names], [clean, *corrupted], strict=True):
            drop = Interval(0.0, 0.0, 0.0)
            if score is not clean:
                drop = difference_interval(clean.minus(score).estimate(), confidence)
            accuracy = share_interval(score.estimate(), confidence)
            rows.append(
                {"backbone": backbone, "corruption": corruption}
                | named("accuracy", accuracy, short=True)
                | named("drop", drop)
            )
    return pd.DataFrame(rows, columns=columns)


def confusion_table(runs: Runs) -> pd.DataFrame:
    """Return confusion.csv: counts of clean pictures by true and predicted class, seeds pooled."""
    classes = runs.answers.classes
    tables = []
    for name in runs.backbones:
        counts = np.zeros((len(classes), len(classes)), np.int64)
        for predicted in runs.clean_answers(name):
            given = predicted >= 0
            np.add.at(counts, (runs.answers.labels[given], predicted[given]), 1)
        tables += [
            {"backbone": name, "class": label, "predicted": said, "count": counts[row, column]}
            for column, said in enumerate(classes)
            for row, label in enumerate(classes)
        ]
    return pd.DataFrame(tables)


def _right(runs: Runs, tables: list[pd.DataFrame]) -> NDArray[np.bool_]:
    """Return (S, N): was the answer to the corrupted picture right?"""
    right = np.zeros((len(tables), len(runs.clean)), np.bool_)
    for row, table in zip(right, tables, strict=True):
        places = runs.answers.places(table["image"])
        row[places] = (table["class"] == table["predicted"]).to_numpy()
    return right
