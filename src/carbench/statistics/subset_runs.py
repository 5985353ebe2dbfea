"""Reads the val predictions of the training runs on fractions of the training set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carbench.core.tables import damaged, read_json, read_table
from carbench.statistics.estimates import Score
from carbench.statistics.jackknife import Groups
from carbench.statistics.scores import subset_scores

COLUMNS = ("image", "group", "class", "predicted", "full")


@dataclass(frozen=True)
class SubsetRuns:
    """All training runs of one backbone on M fractions of the training set.

    Attributes:
        fractions: ascending; the last is 1.
        images: (M,) numbers of training images, means over seeds.
        steps: largest number of optimisation steps of a run.
        groups: (N,) duplicate groups of the val images.
        correct: (M, S, N) whether the prediction is correct.
        tested: (S, N) whether the image is in the val set of that seed.
    """

    fractions: list[float]
    images: list[float]
    steps: int
    groups: NDArray[np.int64]
    correct: NDArray[np.bool_]
    tested: NDArray[np.bool_]

    def scores(self) -> list[Score]:
        """Return the accuracy at each fraction.

        Seeds differ in their training run, their subset of images and, with folds or several
        splits, their val set; the jackknife separates the last.
        """
        groups = Groups(self.groups, np.arange(len(self.tested)))
        tested = np.broadcast_to(self.tested, self.correct.shape)
        return [score.by_split() for score in subset_scores(groups, self.correct, tested)]


def read_subsets(
    folder: Path, backbone: str, fractions: list[float], seeds: list[int]
) -> SubsetRuns:
    """Read the training runs of one backbone.

    Raises:
        CarbenchError: a table is missing or damaged, or those of one seed have different images.
    """
    fractions = sorted(fractions)
    images: dict[str, int] = {}
    answers: dict[tuple[int, int], dict[str, bool]] = {}
    counts = np.zeros((len(fractions) + 1, len(seeds)))
    steps = 0
    for column, seed in enumerate(seeds):
        for row, fraction in enumerate(fractions):
            run = folder / backbone / str(fraction) / str(seed)
            table = read_table(run / "val.csv", COLUMNS)
            correct_by_image = {each["image"]: each["predicted"] == each["class"] for each in table}
            full = {each["image"]: each["full"] == each["class"] for each in table}
            if answers.setdefault((len(fractions), column), full) != full:
                raise damaged(
                    run / "val.csv", "val images that differ from those of another fraction"
                )
            answers[row, column] = correct_by_image
            images |= {each["image"]: int(each["group"]) for each in table}
            record = read_json(run / "provenance.json")
            counts[row, column] = record["images"]
            counts[-1, column] = record["all_images"]
            steps = max(steps, record["steps"])
    index_of = {image: number for number, image in enumerate(images)}
    correct = np.zeros((len(fractions) + 1, len(seeds), len(images)), np.bool_)
    tested = np.zeros(correct.shape[1:], np.bool_)
    for (row, column), outcome in answers.items():
        own = [index_of[image] for image in outcome]
        correct[row, column, own] = list(outcome.values())
        tested[column, own] = True
    return SubsetRuns(
        [*fractions, 1.0],
        [float(mean) for mean in counts.mean(axis=1)],
        steps,
        np.array(list(images.values()), np.int64),
        correct,
        tested,
    )
