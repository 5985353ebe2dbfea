"""Whether new images differ from those that the model was tested on: seven tests, one alarm.

Every test asks whether the window could have been drawn from the same images as the reference,
and is valid if the images of both are exchangeable: its p-value is at most u with a chance of at
most u, for windows of any size. Holm's correction (Scandinavian Journal of Statistics 1979) then
keeps the chance of any false alarm in a window at ``alpha``, however the tests hang together.

Images that belong together, such as many of one car, are not exchangeable with single ones: a
window of them may be told apart although nothing has changed about the camera.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from carbench.data.images.statistics import IMAGE_STATISTICS
from carbench.deploy.bundle.observations import Observations

# Fewer images, in the window or in the reference, say nothing either way.
MIN_IMAGES = 30
# Images of either side in the energy test, whose memory and time grow with their square.
MAX_EMBEDDINGS = 1000
# Tests of a window: the statistics, confidence, classes and embedding.
TEST_COUNT = len(IMAGE_STATISTICS) + 3
# Relabelings are so many that the smallest p-value is this part of what the correction asks for.
P_VALUE_RESOLUTION = 0.1
# Relabelings as extreme as what was observed after which no more are drawn.
MAX_EXCEEDANCES = 30
# Relabelings in work at once.
BATCH_SIZE = 250
# Relabelings that differ by rounding only are as extreme.
ROUNDING_TOLERANCE = 1e-5
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class TwoSampleResult:
    """What one test has found.

    Attributes:
        family: input, confidence, classes or embedding.
        name: what is compared.
        statistic: of the test; larger is further apart.
        effect: how much they differ, 0 to 1, however many images there are: the largest difference
            of the distribution functions; for classes the share of predictions that would have to
            change (total variation); for the embedding the root of the energy distance's share of
            the mean distance (the coefficient of inhomogeneity of Székely and Rizzo).
        p: the p-value, as if this were the only test.
        p_adjusted: the p-value, corrected for the number of tests.
        different: whether ``p_adjusted`` is at most alpha: more than chance.
        alarm: whether it is different by ``min_effect`` or more, and of what the model makes of the
            images. Cameras and files change in ways that a model does not notice: that only
            ``input`` differs is worth knowing, and often leaves the accuracy as it was.
        before, after: what a person may compare, of reference and window: the ``median``; for
            classes the share of each; for the embedding the ``median_distance`` from the centre of
            the reference.
    """

    family: str
    name: str
    statistic: float
    effect: float
    p: float
    p_adjusted: float
    different: bool
    alarm: bool
    before: dict[str, float]
    after: dict[str, float]


@dataclass(frozen=True)
class DriftResult:
    """What the tests say of a window.

    Attributes:
        tests: what each has found; nothing where there are not enough images.
        alpha: the chance of any false alarm, at most, on average over references.
        min_effect: effect size from which a difference is an alarm.
        reference, window: what was compared.
        classes: the class names.
    """

    tests: list[TwoSampleResult]
    alpha: float
    min_effect: float
    reference: Observations
    window: Observations
    classes: list[str]

    @property
    def has_enough_images(self) -> bool:
        """Whether there are enough images to say anything."""
        return min(len(self.reference), len(self.window)) >= MIN_IMAGES

    @property
    def different(self) -> bool:
        """Whether any test says that images differ, by however little."""
        return any(test.different for test in self.tests)

    @property
    def alarm(self) -> bool:
        """Whether the model makes something else of the images, by ``min_effect`` or more."""
        return any(test.alarm for test in self.tests)


def detect_drift(
    reference: Observations,
    window: Observations,
    classes: list[str],
    alpha: float,
    seed: int,
    min_effect: float = 0.0,
) -> DriftResult:
    """Hold a window of new images against the reference.

    Args:
        reference: images that the model has not learned from.
        window: new images, each of them once.
        classes: the class names.
        alpha: the chance of any false alarm, at most.
        seed: of the relabelings.
        min_effect: effect size from which a difference is an alarm.
    """
    untested = DriftResult([], alpha, min_effect, reference, window, classes)
    if not untested.has_enough_images:
        return untested
    rng = np.random.default_rng(seed)
    permutations = ceil(TEST_COUNT / (alpha * P_VALUE_RESOLUTION))
    columns = [
        ("input", name, before, window.statistics[name])
        for name, before in reference.statistics.items()
    ]
    columns.append(("confidence", "confidence", reference.confidence, window.confidence))
    found = [
        _uncorrected_result(
            family, name, _ks_result(before, after), _median(before), _median(after)
        )
        for family, name, before, after in columns
    ]
    counts = [np.bincount(each.predicted, minlength=len(classes)) for each in (reference, window)]
    tested = class_distribution_test(counts[0], counts[1], permutations, rng)
    shares = [dict(zip(classes, (each / each.sum()).tolist(), strict=True)) for each in counts]
    before, after = (np.array(list(each.values())) for each in shares)
    found.append(
        _uncorrected_result(
            "classes", "predicted class", (*tested, _total_variation(before, after)), *shares
        )
    )
    energy = energy_test(reference.embedding, window.embedding, permutations, rng)
    distances = [
        {"median_distance": float(np.median(distance_from_centre(reference, each)))}
        for each in (reference, window)
    ]
    found.append(_uncorrected_result("embedding", "embedding", energy, *distances))
    adjusted = holm_correction([test.p for test in found])
    tests = [
        replace(
            test,
            p_adjusted=corrected,
            different=corrected <= alpha,
            alarm=corrected <= alpha and test.family != "input" and test.effect >= min_effect,
        )
        for test, corrected in zip(found, adjusted, strict=True)
    ]
    return replace(untested, tests=tests)


def ks_test(before: Floats, after: Floats) -> tuple[float, float]:
    """Return the largest difference of two distribution functions, (N,) and (M,), and its p-value.

    Exact up to 10,000 images, from there on from the limit distribution. Equal values make it too
    large at most: broken at random, ties can only widen the difference.
    """
    from scipy.stats import ks_2samp  # takes a second to load

    result = ks_2samp(before, after)
    return float(result.statistic), float(result.pvalue)


def class_distribution_test(
    before: Integers, after: Integers, permutations: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return Pearson's chi-square of two rows of counts, (K,) each, and its p-value.

    If nothing has changed, the window's counts are drawn from those of all images together
    without replacement (multivariate hypergeometric), also where classes have few images.
    """
    seen = before + after > 0
    before, after = before[seen], after[seen]
    both, count = before + after, int(after.sum())
    expected = both * (count / both.sum())
    # Over both rows: the deviations of the reference are the same with the other sign.
    weights = 1 / expected + 1 / (both - expected)

    def chi_square(counts: Integers) -> Floats:
        statistics: Floats = (counts - expected) ** 2 @ weights
        return statistics

    drawn = (
        chi_square(rng.multivariate_hypergeometric(both, count, size, method="marginals"))
        for size in _batch_sizes(permutations)
    )
    statistic = float(chi_square(after))
    return statistic, sequential_p_value(statistic, drawn)


def energy_test(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    permutations: int,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """Return the energy distance of two sets of points, (N, D) and (M, D), p-value and effect size.

    Twice the mean distance between the sets minus the mean distances within each (Székely and
    Rizzo, Journal of Statistical Planning and Inference 2013): 0 only for equal distributions, of
    whatever shape. With the matrix of all distances, doubly centred, it is a quadratic form in the
    labels, so that relabelings are one product of matrices; single precision suffices, as the
    centred matrix leaves no large sums to be subtracted.
    """
    from scipy.spatial.distance import cdist  # takes long to load

    before, after = (_subsample(points, rng) for points in (before, after))
    points = np.concatenate([after, before]).astype(np.float64)
    distances = cdist(points, points)
    means = distances.mean(axis=0)
    centred = means[:, None] + means - distances - means.mean()
    scale = (len(points) / (len(before) * len(after))) ** 2
    narrow = centred.astype(np.float32)

    def energies(size: int) -> Floats:
        is_new = np.zeros((size, len(points)), np.float32)
        is_new[:, : len(after)] = 1
        rng.permuted(is_new, axis=1, out=is_new)
        quadratic: Floats = ((is_new @ narrow) * is_new).sum(axis=1, dtype=np.float64)
        return scale * quadratic

    statistic = scale * float(centred[: len(after), : len(after)].sum())
    p = sequential_p_value(statistic, map(energies, _batch_sizes(permutations)))
    between = 2 * float(distances[: len(after), len(after) :].mean())
    effect = float(np.sqrt(np.clip(statistic / between, 0, 1))) if between > 0 else 0.0
    return statistic, p, effect


def sequential_p_value(statistic: float, by_chance: Iterable[Floats]) -> float:
    """Return the p-value of a statistic: how often it is as large by chance.

    It stops at the ENOUGH-th that is as large (Besag and Clifford, Biometrika 1991): most windows
    are like the reference, and a few hundred relabelings show it.

    Args:
        statistic: as observed.
        by_chance: the same of relabelled images, in chunks.
    """
    drawn = as_large = 0
    for chunk in by_chance:
        places = np.flatnonzero(chunk >= statistic * (1 - ROUNDING_TOLERANCE))
        if as_large + len(places) >= MAX_EXCEEDANCES:
            return float(MAX_EXCEEDANCES / (drawn + places[MAX_EXCEEDANCES - as_large - 1] + 1))
        drawn += len(chunk)
        as_large += len(places)
    return (as_large + 1) / (drawn + 1)


def holm_correction(p_values: list[float]) -> list[float]:
    """Return p-values corrected for their number, in the same order."""
    order = np.argsort(p_values)
    steps = np.array(p_values)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def distance_from_centre(reference: Observations, images: Observations) -> Floats:
    """Return (N,) how far images are from the mean of the reference, in the embedding."""
    centre = reference.embedding.mean(axis=0, dtype=np.float64)
    distances: Floats = np.linalg.norm(images.embedding - centre, axis=1)
    return distances


def _uncorrected_result(
    family: str,
    name: str,
    tested: tuple[float, float, float],
    before: dict[str, float],
    after: dict[str, float],
) -> TwoSampleResult:
    """Return what a test has found, not yet corrected for the others."""
    statistic, p, effect = tested
    return TwoSampleResult(family, name, statistic, effect, p, p, False, False, before, after)


def _ks_result(before: Floats, after: Floats) -> tuple[float, float, float]:
    """Return statistic, p-value and effect size: the statistic is one."""
    statistic, p = ks_test(before, after)
    return statistic, p, statistic


def _total_variation(before: Floats, after: Floats) -> float:
    """Return the total variation distance of two rows of shares, (K,) each."""
    return min(float(np.abs(before - after).sum()) / 2, 1.0)


def _batch_sizes(permutations: int) -> Iterator[int]:
    for start in range(0, permutations, BATCH_SIZE):
        yield min(BATCH_SIZE, permutations - start)


def _subsample(points: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return at most MOST_EMBEDDED of (N, D) points, drawn at random: as exchangeable as all."""
    if len(points) <= MAX_EMBEDDINGS:
        return points
    return points[rng.choice(len(points), MAX_EMBEDDINGS, replace=False)]


def _median(column: Floats) -> dict[str, float]:
    return {"median": float(np.median(column))}
