"""Comparison of experiments on the test images that they share.

An image is included if both experiments tested it, it is clean in both (no duplicate found in train
or val), and its name, class and content are the same. Predictions are averaged over the training
runs of each experiment, then over images. Differences are paired and corrected for multiple testing
(``paired_comparisons.py``): all backbones of all experiments that are compared with the reference
form one family. Training runs of two experiments count as independent, even with equal seeds.
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
from carbench.statistics.scores import BoolArray, subset_scores


@dataclass(frozen=True)
class Experiment:
    """Test predictions of one experiment.

    Attributes:
        name: name given by the user.
        chosen: backbone chosen by stage choose.
        predictions: of all training runs; ``images`` has the columns class, group and leaked.
        content: checksum of each image file, by image name.
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
    """A backbone of the reference and one of another experiment, on their shared images.

    Attributes:
        reference, other: names of the two backbones; they may differ only for the chosen ones.
        reference_accuracy, other_accuracy: on the shared images, each with its own interval.
        comparison: other minus reference; intervals and ``p_adjusted`` are corrected for all pairs.
        includes_training_variance: whether both have several training runs, so that the interval
            covers other runs; if not, it is about these runs only.
        identical: whether all training runs of both made the same predictions.
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
    """Comparison of one experiment with the reference.

    Attributes:
        reference, other: names of the two.
        images, groups: number of shared clean test images and of their duplicate groups.
        reference_images, other_images: number of clean test images of each.
        relabelled: excluded images with another class in the other experiment.
        replaced: excluded images whose file content differs.
        tested_apart: images, clean or leaked, tested in only one of the two.
        chosen: comparison of the chosen backbones.
        backbones: comparison of each backbone that both have, in the reference's order.
        reference_only, other_only: backbones in only one of them.
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
        reference: baseline; differences are other minus reference, as fractions.
        others: at least one experiment; all names are unique, including the reference's.
        confidence: joint confidence level of all intervals.
        margin: largest irrelevant difference, as a fraction.

    Raises:
        CarbenchError: an experiment shares no clean test image with the reference.
    """
    shared = [_shared(reference, other) for other in others]
    family = _ComparisonFamily(reference, others, shared)
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


class _ComparisonFamily:
    """All pairs of one family of comparisons, scored on the same images."""

    def __init__(
        self,
        reference: Experiment,
        others: Sequence[Experiment],
        shared: list[pd.Index[str]],
    ) -> None:
        # Sorted, so that no draw depends on the order of rows or experiments.
        self._images = pd.Index(sorted(set().union(*shared)), dtype=object)
        self._groups = Groups(
            merge_groups(
                [each.predictions.images["group"] for each in (reference, *others)], self._images
            )
        )
        self._scores: dict[str, Score] = {}
        self._pairs: list[tuple[str, str]] = []
        self._added: list[tuple[str, str, bool]] = []

    def count_groups(self, images: pd.Index[str]) -> int:
        """Return the number of duplicate groups among the images."""
        return self._groups.count(np.asarray(self._images.isin(images)))

    def add(
        self, one: Experiment, first: str, two: Experiment, second: str, images: pd.Index[str]
    ) -> None:
        """Add a pair: backbone ``first`` of ``one`` and ``second`` of ``two``."""
        identical = np.array_equal(
            _predicted_names(one.predictions, first, images),
            _predicted_names(two.predictions, second, images),
        )
        mine = self._score(one, first, images)
        # Identical predictions count as the same training runs; equal seeds do not.
        theirs = mine if identical else self._score(two, second, images)
        # The other experiment comes first, as the difference is other minus reference.
        pair = (theirs, mine)
        self._pairs.append(pair)
        self._added.append((first, second, identical))

    def compared(self, confidence: float, margin: float) -> list[BackbonePair]:
        """Return all pairs in the order of their addition."""
        # In alphabetical order, so that swapping two experiments changes only the sign.
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
            for each, (first, second, identical) in zip(comparisons, self._added, strict=True)
        ]

    def _score(self, experiment: Experiment, backbone: str, images: pd.Index[str]) -> str:
        """Score a backbone on a subset of the images, once; return the name of the score."""
        correct, tested = _select(experiment.predictions, backbone, self._images)
        tested = tested & self._images.isin(images)
        # All pairs share one score of the same training runs on the same images.
        name = f"{experiment.name}\0{backbone}\0{np.packbits(tested).tobytes().hex()}"
        if name not in self._scores:
            (score,) = subset_scores(self._groups, correct, tested[None])
            # With folds, each image counts once, however many training runs it was tested by.
            weights = (tested / np.maximum(tested.sum(axis=0), 1)).sum(axis=1)
            splits = experiment.predictions.splits
            self._scores[name] = replace(score, weights=weights, splits=splits)
        return name


def merge_groups(groupings: Sequence[pd.Series[int]], images: pd.Index[str]) -> NDArray[np.int64]:
    """Return (N,) connected groups of images that are duplicates in any of several groupings.

    Args:
        groupings: group number by image; images that are not in ``images`` may connect others.
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
    _, components = connected_components(links, directed=False)
    # Numbered by their first image, independently of the numbers in the groupings.
    numbers, _ = pd.factorize(components[pd.Index(linked).get_indexer(images)])
    return np.asarray(numbers, np.int64)


def _pairs(reference: Experiment, other: Experiment) -> list[tuple[str, str]]:
    """Return pairs of the backbones of both, preceded by the chosen ones if they differ."""
    pairs = [
        (name, name)
        for name in reference.predictions.predicted
        if name in other.predictions.predicted
    ]
    chosen = (reference.chosen, other.chosen)
    return pairs if chosen in pairs else [chosen, *pairs]


def _shared(reference: Experiment, other: Experiment) -> pd.Index[str]:
    """Return the names of the images that are the same and clean in both."""
    common = reference.clean.index.intersection(other.clean.index)
    alike = _same_class(reference, other, common) & _same_content(reference, other, common)
    images = common[alike].sort_values()
    if images.empty:
        raise CarbenchError(
            f"{reference.name} and {other.name}",
            found=f"no clean test image that both have ({len(reference.clean)} in "
            f"{reference.name}, {len(other.clean)} in {other.name}, {len(common)} of equal name)",
            expected="test images with the same name, class and content in both",
            fix="compare experiments on the same data, with some test images in common",
        )
    return images


def _same_class(one: Experiment, two: Experiment, images: pd.Index[str]) -> BoolArray:
    first, second = (each.predictions.images["class"].loc[images] for each in (one, two))
    return np.asarray(first.to_numpy() == second.to_numpy(), bool)


def _same_content(one: Experiment, two: Experiment, images: pd.Index[str]) -> BoolArray:
    first, second = (each.content.reindex(images) for each in (one, two))
    return np.asarray(first.to_numpy() == second.to_numpy(), bool)


def _select(
    predictions: AlignedPredictions, backbone: str, images: pd.Index[str]
) -> tuple[BoolArray, BoolArray]:
    """Return (S, N) correct and (S, N) tested for the named images, false for unknown ones."""
    positions = predictions.images.index.get_indexer(images)
    known = positions >= 0
    return predictions.correct(backbone)[:, positions] & known, predictions.tested(backbone)[
        :, positions
    ] & known


def _predicted_names(
    predictions: AlignedPredictions, backbone: str, images: pd.Index[str]
) -> NDArray[np.object_]:
    """Return (S, N) names of the predicted classes."""
    names = np.array([*predictions.classes, ""], object)  # the last: untested
    positions = predictions.images.index.get_indexer(images)
    return np.asarray(names[predictions.predicted[backbone][:, positions]], object)
