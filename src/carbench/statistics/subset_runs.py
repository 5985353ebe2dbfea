"""Reads what stage subset wrote: the val answers of trainings on fractions of the images."""

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
    """All trainings of one backbone on M fractions of the images, the last of them all.

    Attributes:
        fractions: rising, the last is 1.
        images: (M,) how many images that is, the mean of the seeds.
        steps: the most steps that a training took.
        groups: (N,) duplicate groups of the val images.
        right: (M, S, N) was the answer right?
        tested: (S, N) is the image in the val part of that seed?
    """

    fractions: list[float]
    images: list[float]
    steps: int
    groups: NDArray[np.int64]
    correct: NDArray[np.bool_]
    tested: NDArray[np.bool_]

    def scores(self) -> list[Score]:
        """Return the accuracy at each fraction.

        What differs between seeds is their training, their draw of images and, with folds or
        several splits, their val part; the last is told apart by the jackknife.
        """
        groups = Groups(self.groups, np.arange(len(self.tested)))
        tested = np.broadcast_to(self.tested, self.correct.shape)
        return [score.by_split() for score in subset_scores(groups, self.correct, tested)]


def read_subsets(
    folder: Path, backbone: str, fractions: list[float], seeds: list[int]
) -> SubsetRuns:
    """Read the trainings of one backbone.

    Raises:
        CarbenchError: a table is not there or not whole, or two of a seed differ in their images.
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
            said = {each["image"]: each["predicted"] == each["class"] for each in table}
            full = {each["image"]: each["full"] == each["class"] for each in table}
            if answers.setdefault((len(fractions), column), full) != full:
                raise damaged(run / "val.csv", "other val images than another fraction's")
            answers[row, column] = said
            images |= {each["image"]: int(each["group"]) for each in table}
            record = read_json(run / "provenance.json")
            counts[row, column] = record["images"]
            counts[-1, column] = record["all_images"]
            steps = max(steps, record["steps"])
    place = {image: number for number, image in enumerate(images)}
    correct = np.zeros((len(fractions) + 1, len(seeds), len(images)), np.bool_)
    tested = np.zeros(correct.shape[1:], np.bool_)
    for (row, column), given in answers.items():
        own = [place[image] for image in given]
        correct[row, column, own] = list(given.values())
        tested[column, own] = True
    return SubsetRuns(
        [*fractions, 1.0],
        [float(mean) for mean in counts.mean(axis=1)],
        steps,
        np.array(list(images.values()), np.int64),
        correct,
        tested,
    )
