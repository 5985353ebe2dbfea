"""Whether two experiments differ: the same test images, answered by the trainings of both.

An image counts if both tested it, it is clean in both (no twin found in either's train or val),
and it is the same: name, class and content. Of every experiment's trainings each image's answers
are averaged, then the images. Differences are paired and corrected for their number as everywhere
(``comparing.py``): all backbones of all experiments that are compared with the reference are one
family. Trainings of two experiments are taken as independent, also where their seeds are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from carbench.core.errors import CarbenchError
from carbench.statistics.confidence_intervals import Interval, share_interval
from carbench.statistics.estimates import Score, estimate_jointly
from carbench.statistics.jackknife import Groups
from carbench.statistics.paired_comparisons import PairedComparison, compare_pairs
from carbench.statistics.predictions import AlignedPredictions
from carbench.statistics.scores import subset_scores

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Experiment:
    """What one experiment found on its test images.

    Attributes:
        name: what the user calls it.
        chosen: the backbone that its stage choose took.
        answers: of all trainings; ``images`` has the columns class, group and leaked.
        content: the checksum of each image's file, by its name.
    """

    name: str
    chosen: str
    predictions: AlignedPredictions
    content: pd.Series[str]

    @property
    def clean(self) -> pd.DataFrame:
        """The clean test images, by name."""
        images = self.predictions.images
        return images[images["leaked"] == 0]


@dataclass(frozen=True)
class BackbonePair:
    """A backbone of the reference and one of another experiment, on the images of both.

    Attributes:
        reference, other: the names of the two backbones; the same, but for the chosen ones.
        reference_accuracy, other_accuracy: on the shared images, each with its own interval.
        comparison: other minus reference; intervals and ``p_adjusted`` hold for the whole family.
        knows_trainings: whether both have several trainings, so that the interval holds what
            another training would change; if not, it is about these trainings.
        identical: whether all trainings of both gave the same answers to all shared images.
    """

    reference: str
    other: str
    reference_accuracy: Interval
    other_accuracy: Interval
    comparison: PairedComparison
    includes_training_variance: bool
    identical: bool


@dataclass(frozen=True)
class ExperimentComparison:
    """One experiment against the reference.

    Attributes:
        reference, other: the names of the two.
        images, groups: shared clean test images, and duplicate groups among them.
        reference_images, other_images: all clean test images of each.
        relabelled: images of one name that have another class in the other experiment; left out.
        replaced: images of one name whose file has another content there; left out.
        tested_apart: images, clean or leaked, that only one of the two tested.
        chosen: the chosen backbone of each.
        backbones: each backbone that both have, in the reference's order.
        reference_only, other_only: backbones that one of them lacks.
    """

    reference: str
    other: str
    images: int
    groups: int
    reference_images: int
    other_images: int
    relabelled: int
    replaced: int
    tested_apart: int
    chosen: BackbonePair
    backbones: list[BackbonePair]
    reference_only: list[str]
    other_only: list[str]


def compare_experiments(
    reference: Experiment, others: Sequence[Experiment], confidence: float, margin: float
) -> list[ExperimentComparison]:
    """Compare each of ``others`` with the reference.

    Args:
        reference: what the others are compared with; differences are other minus reference, in
            parts of one.
        others: at least one; names are unique, the reference's included.
        confidence: of all intervals together.
        margin: a difference that does not matter, in parts of one.

    Raises:
        CarbenchError: an experiment shares no clean test image with the reference.
    """
    shared = [_shared(reference, other) for other in others]
    family = _Family(reference, others, shared)
    for other, images in zip(others, shared, strict=True):
        for one, two in _pairs(reference, other):
            family.add(reference, one, other, two, images)
    found = iter(family.compared(confidence, margin))
    results = []
    for other, images in zip(others, shared, strict=True):
        pairs = [next(found) for _ in _pairs(reference, other)]
        ours, theirs = list(reference.predictions.predicted), list(other.predictions.predicted)
        common = reference.clean.index.intersection(other.clean.index)
        results.append(
            ExperimentComparison(
                reference=reference.name,
                other=other.name,
                images=len(images),
                groups=family.count_groups(images),
                reference_images=len(reference.clean),
                other_images=len(other.clean),
                relabelled=int((~_same_class(reference, other, common)).sum()),
                replaced=int((~_same_content(reference, other, common)).sum()),
                tested_apart=len(
                    reference.predictions.images.index.symmetric_difference(
                        other.predictions.images.index
                    )
                ),
                chosen=next(
                    pair
                    for pair in pairs
                    if (pair.reference, pair.other) == (reference.chosen, other.chosen)
                ),
                backbones=[pair for pair in pairs if pair.reference == pair.other],
                reference_only=[name for name in ours if name not in theirs],
                other_only=[name for name in theirs if name not in ours],
            )
        )
    return results


class _Family:
    """All pairs that are judged together, on the same images."""

    def __init__(
        self,
        reference: Experiment,
        others: Sequence[Experiment],
        shared: list[pd.Index[str]],
    ) -> None:
        # Sorted, so that neither the order of rows nor that of experiments decides any draw.
        self._images = pd.Index(sorted(set().union(*shared)), dtype=object)
        self._groups = Groups(
            merge_groups(
                [each.predictions.images["group"] for each in (reference, *others)], self._images
            )
        )
        self._scores: dict[str, Score] = {}
        self._pairs: list[tuple[str, str]] = []
        self._known: list[tuple[str, str, bool]] = []

    def count_groups(self, images: pd.Index[str]) -> int:
        """Return how many duplicate groups the images belong to."""
        return self._groups.count(np.asarray(self._images.isin(images)))

    def add(
        self, one: Experiment, first: str, two: Experiment, second: str, images: pd.Index[str]
    ) -> None:
        """Remember a pair: backbone ``first`` of ``one`` and ``second`` of ``two``."""
        identical = np.array_equal(
            _named(one.predictions, first, images), _named(two.predictions, second, images)
        )
        mine = self._score(one, first, images)
        # Trainings that gave the same answers throughout are the same trainings, as far as these
        # images can show; the same seeds are not taken for it.
        theirs = mine if identical else self._score(two, second, images)
        # The later experiment stands first, as the difference is other minus reference.
        pair = (theirs, mine)
        self._pairs.append(pair)
        self._known.append((first, second, identical))

    def compared(self, confidence: float, margin: float) -> list[BackbonePair]:
        """Return all pairs in the order in which they were added."""
        # In alphabetic order, so that swapping two experiments swaps the sign and nothing else.
        estimates = estimate_jointly(dict(sorted(self._scores.items())))
        comparisons = compare_pairs(estimates, confidence, margin, self._pairs)
        return [
            BackbonePair(
                first,
                second,
                share_interval(estimates[each.other], confidence),
                share_interval(estimates[each.backbone], confidence),
                each,
                estimates[each.other].includes_training_variance
                and estimates[each.backbone].includes_training_variance,
                identical,
            )
            for each, (first, second, identical) in zip(comparisons, self._known, strict=True)
        ]

    def _score(self, experiment: Experiment, backbone: str, images: pd.Index[str]) -> str:
        """Score a backbone on some of the images, once; return what the score is called."""
        correct, tested = _on(experiment.predictions, backbone, self._images)
        tested = tested & self._images.isin(images)
        # The same trainings on the same images are one score, for all pairs that it is in.
        name = f"{experiment.name}\0{backbone}\0{np.packbits(tested).tobytes().hex()}"
        if name not in self._scores:
            (score,) = subset_scores(self._groups, correct, tested[None])
            # Each image counts once, however many of the trainings were tested on it: folds.
            weights = (tested / np.maximum(tested.sum(axis=0), 1)).sum(axis=1)
            splits = experiment.predictions.splits
            self._scores[name] = replace(score, weights=weights, splits=splits)
        return name


def merge_groups(groupings: Sequence[pd.Series[int]], images: pd.Index[str]) -> NDArray[np.int64]:
    """Return (N,) groups of images that are twins by any of several groupings, or by a chain.

    Args:
        groupings: a number of a group by image each; images beyond ``images`` count as links.
        images: the N images.
    """
    named = pd.concat(
        [
            pd.DataFrame({"image": groups.index, "group": f"{number}/" + groups.astype(str)})
            for number, groups in enumerate(groupings)
        ]
    )
    rows, linked = pd.factorize(named["image"], sort=True)
    columns, groups = pd.factorize(named["group"])
    size = len(linked) + len(groups)
    links = csr_array(
        (np.ones(len(rows), np.int8), (rows, columns + len(linked))), shape=(size, size)
    )
    _, parts = connected_components(links, directed=False)
    # Numbered by their first image, whatever the groupings were called.
    numbers, _ = pd.factorize(parts[pd.Index(linked).get_indexer(images)])
    return np.asarray(numbers, np.int64)


def _pairs(reference: Experiment, other: Experiment) -> list[tuple[str, str]]:
    """Return the backbones of both, and the chosen of each if that is another pair."""
    pairs = [
        (name, name)
        for name in reference.predictions.predicted
        if name in other.predictions.predicted
    ]
    chosen = (reference.chosen, other.chosen)
    return pairs if chosen in pairs else [chosen, *pairs]


def _shared(reference: Experiment, other: Experiment) -> pd.Index[str]:
    """Return the names of the images on which both can be compared."""
    common = reference.clean.index.intersection(other.clean.index)
    alike = _same_class(reference, other, common) & _same_content(reference, other, common)
    images = common[alike].sort_values()
    if images.empty:
        raise CarbenchError(
            f"{reference.name} and {other.name}",
            found=f"no clean test image that both have ({len(reference.clean)} in "
            f"{reference.name}, {len(other.clean)} in {other.name}, {len(common)} of one name)",
            expected="images with the same name, class and content that both tested",
            fix="compare experiments on the same data, whose `split` tests some images in both",
        )
    return images


def _same_class(one: Experiment, two: Experiment, images: pd.Index[str]) -> BoolArray:
    first, second = (each.predictions.images["class"].loc[images] for each in (one, two))
    return np.asarray(first.to_numpy() == second.to_numpy(), bool)


def _same_content(one: Experiment, two: Experiment, images: pd.Index[str]) -> BoolArray:
    first, second = (each.content.reindex(images) for each in (one, two))
    return np.asarray(first.to_numpy() == second.to_numpy(), bool)


def _on(
    predictions: AlignedPredictions, backbone: str, images: pd.Index[str]
) -> tuple[BoolArray, BoolArray]:
    """Return (S, N) right and (S, N) tested of the named images, also of unknown ones."""
    positions = predictions.images.index.get_indexer(images)
    known = positions >= 0
    return predictions.correct(backbone)[:, positions] & known, predictions.tested(backbone)[
        :, positions
    ] & known


def _named(
    predictions: AlignedPredictions, backbone: str, images: pd.Index[str]
) -> NDArray[np.object_]:
    """Return (S, N) the names of the predicted classes."""
    names = np.array([*predictions.classes, ""], object)  # the last: untested
    positions = predictions.images.index.get_indexer(images)
    return np.asarray(names[predictions.predicted[backbone][:, positions]], object)
