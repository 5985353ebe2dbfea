"""From answers to scores: what is counted, with all images and without each duplicate group."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from carbench.evaluation.metrics import macro_f1
from carbench.statistics.estimates import Score
from carbench.statistics.jackknife import FloatArray, Groups
from carbench.statistics.predictions import UNTESTED

BoolArray = NDArray[np.bool_]
Counts = tuple[
    FloatArray, FloatArray, FloatArray
]  # right, of this class, taken for it: each (..., K)
# Duplicate groups in work at once: bounds the memory for large test sets.
CHUNK = 512


class ClassScores:
    """The scores of one backbone that depend on classes.

    A training that was tested on one fold has only a part of the images, and a metric that is no
    mean over images (macro F1, any mean over classes) would be another number on a part. Counts
    are therefore summed over the trainings that tested all images between them. Of several splits
    each has a test part like that of a single split, and stands for itself.

    Args:
        groups: of the N images.
        labels: (N,) true class indices.
        predicted: (S, N) predicted class indices, or UNTESTED.
        classes: how many classes there are.
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
        """Return the scores of a single training."""
        own = self._predicted[training : training + 1]
        groups = Groups(self._groups.numbers)  # of one training, which is of one split
        return ClassScores(groups, self._labels, own, self._classes)

    def accuracy(self, mix: FloatArray | None = None) -> Score:
        """Return right answers by tested images.

        Args:
            mix: (K,) the share of each class among the images that are meant; None: as tested.
        """
        if mix is None:
            correct = (self._predicted == self._labels) & self._tested
            return subset_scores(self._groups, correct, self._tested[None])[0]
        return self._score(
            lambda counts: reweighted_accuracy(*counts[:2], mix), self._evidence(mix)
        )

    def balanced_accuracy(self) -> Score:
        """Return the mean recall of the classes that have images."""
        return self.accuracy(np.full(self._classes, 1 / self._classes))

    def macro_f1(self) -> Score:
        """Return the mean F1 of the classes."""
        groups = self._groups.count(self._tested.any(axis=0))
        return self._score(lambda counts: macro_f1(*counts), groups)

    def recall(self, index: int) -> Score:
        """Return right answers by tested images of one class."""
        correct = (self._predicted == self._labels) & self._tested
        return subset_scores(self._groups, correct, (self._tested & (self._labels == index))[None])[
            0
        ]

    def _evidence(self, mix: FloatArray) -> int:
        """How many groups, all of equal weight, would tell as much as those of all classes."""
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
        """Count (3, G, rounds, K): right, of this class, taken for it, by groups of ``sizes``."""
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
    """Return the accuracy on images whose classes have the shares of ``mix``.

    Direct standardisation: the recalls of the classes, weighted by their shares. Classes without
    images are left out, and the shares of the others grow to one.

    Args:
        hits: (..., K) right answers by class.
        true: (..., K) images by class.
        mix: (K,) shares, at least 0; nan is returned where no class of the mix has images.
    """
    weights = np.where(true > 0, mix, 0.0)
    total = weights.sum(axis=-1)
    recalls = np.divide(hits, true, out=np.zeros(true.shape), where=true > 0)
    return _ratio((recalls * weights).sum(axis=-1), total)


def subset_scores(groups: Groups, correct: BoolArray, tested: BoolArray) -> list[Score]:
    """Return the accuracy on each of M parts of the images, such as slices.

    Args:
        groups: of the N images.
        right: (M, S, N), or (S, N) if the same for all parts: is the answer right?
        tested: (M, S, N): does the image count in this part, for this training?
    """
    return ratio_scores(groups, correct & tested, tested, tested)


def ratio_scores(
    groups: Groups,
    part: FloatArray | BoolArray,
    whole: BoolArray,
    tested: BoolArray,
    is_share: bool = True,
) -> list[Score]:
    """Return the sum of ``part`` by the number in ``whole``, of each of M statistics.

    Args:
        groups: of the N images.
        part: (M, S, N) what is summed, 0 outside ``whole``.
        whole: (M, S, N) the images that count, which may be others for each training (those that
            it is sure of).
        tested: (M, S, N) the images that each training was tested on.
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
    """Return (S,) numbers, equal for trainings that were tested on the same of (S, N) images."""
    known: dict[bytes, int] = {}
    return np.array([known.setdefault(row.tobytes(), len(known)) for row in tested])


def training_rounds(
    tested: BoolArray, splits: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return (S,) numbers, equal for trainings that tested all of the images between them.

    With several ``splits`` every training is a round. Else each training joins the first round that
    has none of its images, (S, N). Where the rounds are not all of the same images, as with
    seven seeds of five folds, all trainings are one round.
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
    """Return part by whole; nan where there is nothing."""
    ratio: FloatArray = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
