"""Scores of predictions: accuracy, macro F1 and recall with leave-one-group-out values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from carbench.evaluation.metrics import macro_f1
from carbench.statistics.estimates import Score
from carbench.statistics.jackknife import FloatArray, Groups
from carbench.statistics.predictions import UNTESTED

BoolArray = NDArray[np.bool_]
# Correct predictions, images and predictions by class, (..., K) each.
Counts = tuple[FloatArray, FloatArray, FloatArray]
# Duplicate groups processed at a time, to limit memory for large test sets.
CHUNK = 512


class ClassScores:
    """Scores of one backbone from its class predictions.

    A training run on one fold is tested on a subset of the images, where a metric that is not a
    mean over images (macro F1, a mean over classes) has a different expectation. Counts are
    therefore summed over the runs that together tested all images. With several splits, each run
    has a whole test set and is scored separately.

    Args:
        groups: duplicate groups of the N images.
        labels: (N,) true class indices.
        predicted: (S, N) predicted class indices, or UNTESTED.
        classes: number of classes.
    """

    def __init__(
        self,
        groups: Groups,
        labels: NDArray[np.int64],
        predicted: NDArray[np.int64],
        classes: int,
    ) -> None:
        self._groups, self._labels, self._predicted = groups, labels, predicted
        self._classes = classes
        self._tested = predicted != UNTESTED
        self._rounds = training_rounds(self._tested, groups.splits)

    def of_training(self, training: int) -> ClassScores:
        """Return the scores of a single training run."""
        own = self._predicted[training : training + 1]
        groups = Groups(self._groups.numbers)  # a single run belongs to one split
        return ClassScores(groups, self._labels, own, self._classes)

    def accuracy(self, mix: FloatArray | None = None) -> Score:
        """Return the accuracy.

        Args:
            mix: (K,) fraction of each class to reweight to; None: as in the tested images.
        """
        if mix is None:
            correct = (self._predicted == self._labels) & self._tested
            return subset_scores(self._groups, correct, self._tested[None])[0]
        return self._score(
            lambda counts: reweighted_accuracy(*counts[:2], mix), self._effective_groups(mix)
        )

    def balanced_accuracy(self) -> Score:
        """Return the mean recall over classes with images."""
        return self.accuracy(np.full(self._classes, 1 / self._classes))

    def macro_f1(self) -> Score:
        """Return the mean F1 over classes."""
        groups = self._groups.count(self._tested.any(axis=0))
        return self._score(lambda counts: macro_f1(*counts), groups)

    def recall(self, index: int) -> Score:
        """Return the recall of one class."""
        correct = (self._predicted == self._labels) & self._tested
        return subset_scores(self._groups, correct, (self._tested & (self._labels == index))[None])[
            0
        ]

    def _effective_groups(self, mix: FloatArray) -> int:
        """Return the effective number of equally weighted groups."""
        by_class = np.array(
            [
                self._groups.count(self._tested.any(axis=0) & (self._labels == index))
                for index in range(self._classes)
            ]
        )
        kept = (by_class > 0) & (mix > 0)
        shares = mix[kept] / mix[kept].sum()
        return max(1, round(1 / float((shares**2 / by_class[kept]).sum())))

    def _score(self, statistic: Callable[[Counts], FloatArray], groups: int) -> Score:
        whole = self._count(self._groups.order).sum(axis=1)
        rounds = whole.shape[1]
        left_out = np.empty((len(self._groups), rounds))
        edges = [*self._groups.starts, len(self._labels)]
        for start in range(0, len(left_out), CHUNK):
            stop = min(start + CHUNK, len(left_out))
            images = self._groups.order[edges[start] : edges[stop]]
            sizes = np.diff(edges[start : stop + 1])
            without = whole[:, None] - self._count(images, sizes)
            left_out[start:stop] = statistic((without[0], without[1], without[2]))
        return Score(
            by_training=statistic((whole[0], whole[1], whole[2])),
            left_out=left_out,
            weights=np.ones(rounds),
            strata=np.zeros(rounds, np.int64),
            groups=groups,
            splits=self._groups.splits,
        )

    def _count(
        self, images: NDArray[np.intp], sizes: NDArray[np.int64] | None = None
    ) -> FloatArray:
        """Return (3, G, rounds, K) counts: correct, of the class and predicted, by group."""
        sizes = np.array([len(images)]) if sizes is None else sizes
        group = np.repeat(np.arange(len(sizes)), sizes)
        counts = np.zeros((3, len(sizes), self._rounds.max() + 1, self._classes))
        labels = self._labels[images]
        for number, row in zip(self._rounds, self._predicted[:, images], strict=True):
            given = row != UNTESTED
            correct = given & (row == labels)
            np.add.at(counts[0], (group[correct], number, labels[correct]), 1)
            np.add.at(counts[1], (group[given], number, labels[given]), 1)
            np.add.at(counts[2], (group[given], number, row[given]), 1)
        return counts


def reweighted_accuracy(hits: FloatArray, true: FloatArray, mix: FloatArray) -> FloatArray:
    """Return the accuracy reweighted to a class mix.

    Direct standardisation: the mean of the recalls, weighted by the mix. Classes without images are
    left out, and the weights of the others are normalised.

    Args:
        hits: (..., K) correct predictions by class.
        true: (..., K) images by class.
        mix: (K,) weights, at least 0; the result is nan if no class of the mix has images.
    """
    weights = np.where(true > 0, mix, 0.0)
    total = weights.sum(axis=-1)
    recalls = np.divide(hits, true, out=np.zeros(true.shape), where=true > 0)
    return _ratio((recalls * weights).sum(axis=-1), total)


def subset_scores(groups: Groups, correct: BoolArray, tested: BoolArray) -> list[Score]:
    """Return the accuracy on each of M subsets of the images, such as slices.

    Args:
        groups: duplicate groups of the N images.
        correct: (M, S, N), or (S, N) if equal for all subsets: whether the prediction is correct.
        tested: (M, S, N): whether the subset includes the image and the run was tested on it.
    """
    return ratio_scores(groups, correct & tested, tested, tested)


def ratio_scores(
    groups: Groups,
    part: FloatArray | BoolArray,
    whole: BoolArray,
    tested: BoolArray,
    is_share: bool = True,
) -> list[Score]:
    """Return the sum of ``part`` divided by the number of ``whole``, for each of M statistics.

    Args:
        groups: duplicate groups of the N images.
        part: (M, S, N) summands, 0 outside ``whole``.
        whole: (M, S, N) images in the denominator, which may differ between training runs (those
            above a confidence threshold).
        tested: (M, S, N) images that each run was tested on.
        is_share: whether the ratios lie between 0 and 1.
    """
    counts = np.stack([part, np.broadcast_to(whole, part.shape)]).astype(np.float64)  # (2, M, S, N)
    sums, images = counts.sum(axis=-1, dtype=np.float64)
    by_group = np.moveaxis(groups.sums(np.moveaxis(counts, -1, 0)), 1, 0)  # (2, G, M, S)
    left_out = _ratio(sums - by_group[0], images - by_group[1])
    return [
        Score(
            _ratio(sums[row], images[row]),
            left_out[:, row],
            images[row],
            strata(tested[row]),
            groups.count(whole[row].any(axis=0)),
            is_share,
            groups.splits,
        )
        for row in range(len(whole))
    ]


def strata(tested: BoolArray) -> NDArray[np.int64]:
    """Return (S,) numbers, equal for training runs that were tested on the same images."""
    known: dict[bytes, int] = {}
    return np.array([known.setdefault(row.tobytes(), len(known)) for row in tested])


def training_rounds(
    tested: BoolArray, splits: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return (S,) numbers, equal for training runs that together tested all images once.

    With several ``splits``, every run is a round. Otherwise each run joins the first round that has
    none of its (S, N) images. If the rounds do not all have the same images, as with seven seeds of
    five folds, all runs form one round.
    """
    if splits is not None:
        return np.arange(len(tested))
    covered: list[BoolArray] = []
    numbers = []
    for row in tested:
        for number, images in enumerate(covered):
            if not (images & row).any():
                images |= row
                numbers.append(number)
                break
        else:
            covered.append(row.copy())
            numbers.append(len(covered) - 1)
    alike = all(np.array_equal(images, covered[0]) for images in covered)
    return np.array(numbers) if alike else np.zeros(len(tested), np.int64)


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Return part divided by whole; nan where whole is zero."""
    ratio: FloatArray = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
