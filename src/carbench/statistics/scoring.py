"""From answers to scores: what is counted, as it is and in every resample of the pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carbench.judging.metrics import balanced_accuracy, macro_f1
from carbench.statistics.answers import UNTESTED
from carbench.statistics.bootstrap import Bootstrap, Score

Flags = NDArray[np.bool_]


class ClassScores:
    """The scores of one backbone that need counts by class.

    Args:
        bootstrap: of the N pictures.
        labels: (N,) true class indices.
        predicted: (S, N) predicted class indices, or UNTESTED.
        classes: how many classes there are.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        labels: NDArray[np.int64],
        predicted: NDArray[np.int64],
        classes: int,
    ) -> None:
        tested = predicted.T != UNTESTED
        true = np.eye(classes, dtype=np.float32)[labels][:, None] * tested[..., None]
        claimed = np.eye(classes + 1, dtype=np.float32)[predicted.T][..., :classes]
        columns = np.stack([true * claimed, true, claimed])
        self._counted = columns.sum(axis=1, dtype=np.float64)
        resampled = bootstrap.totals(np.moveaxis(columns, 0, 1))
        self._resampled = np.moveaxis(resampled, 1, 0)
        self._strata = strata_of(tested.T)
        self._groups = [
            count_groups(bootstrap, tested.any(axis=1) & (labels == index))
            for index in range(classes)
        ]
        self._all_groups = count_groups(bootstrap, tested.any(axis=1))

    def accuracy(self) -> Score:
        """Return right answers by tested pictures."""
        (hits, true, _), (hits_drawn, true_drawn, _) = self._counted, self._resampled
        return self._score(
            _ratio(hits.sum(axis=-1), true.sum(axis=-1)),
            _ratio(hits_drawn.sum(axis=-1), true_drawn.sum(axis=-1)),
        )

    def balanced_accuracy(self) -> Score:
        """Return the mean recall of the classes."""
        (hits, true, _), (hits_drawn, true_drawn, _) = self._counted, self._resampled
        return self._score(balanced_accuracy(hits, true), balanced_accuracy(hits_drawn, true_drawn))

    def macro_f1(self) -> Score:
        """Return the mean F1 of the classes."""
        return self._score(macro_f1(*self._counted), macro_f1(*self._resampled))

    def recall(self, index: int) -> Score:
        """Return right answers by tested pictures of one class."""
        hits, true, _ = self._counted[..., index]
        drawn_hits, drawn_true, _ = self._resampled[..., index]
        return Score(
            _ratio(hits, true),
            _ratio(drawn_hits, drawn_true),
            true,
            self._strata,
            self._groups[index],
        )

    def _score(self, by_training: NDArray[np.float64], resampled: NDArray[np.float64]) -> Score:
        weights = self._counted[1].sum(axis=-1)
        return Score(by_training, resampled, weights, self._strata, self._all_groups)


def part_scores(bootstrap: Bootstrap, right: Flags, tested: Flags) -> list[Score]:
    """Return the accuracy on each of M parts of the pictures, such as slices.

    Args:
        bootstrap: of the N pictures.
        right: (M, S, N), or (S, N) if the same for all parts: is the answer right?
        tested: (M, S, N): does the picture count in this part, for this training?
    """
    counts = np.stack([right & tested, tested]).astype(np.float32)  # (2, M, S, N)
    hits, pictures = counts.sum(axis=-1, dtype=np.float64)
    drawn = np.moveaxis(bootstrap.totals(np.moveaxis(counts, -1, 0)), 1, 0)
    accuracies = _ratio(drawn[0], drawn[1])
    return [
        Score(
            _ratio(hits[part], pictures[part]),
            accuracies[:, part],
            pictures[part],
            strata_of(tested[part]),
            count_groups(bootstrap, tested[part].any(axis=0)),
        )
        for part in range(len(tested))
    ]


def strata_of(tested: Flags) -> NDArray[np.int64]:
    """Return (S,) numbers, equal for trainings that were tested on the same of (S, N) pictures."""
    known: dict[bytes, int] = {}
    return np.array([known.setdefault(row.tobytes(), len(known)) for row in tested])


def count_groups(bootstrap: Bootstrap, pictures: Flags) -> int:
    """Return how many duplicate groups the marked pictures belong to."""
    return len(np.unique(bootstrap.groups[pictures]))


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return part by whole; nan where there is nothing."""
    ratio: NDArray[np.float64] = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
