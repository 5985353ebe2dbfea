"""Drift detection by seven two-sample tests with a correction for multiple testing.

The null hypothesis of each test is that window and reference are drawn from the same distribution.
If their images are exchangeable, the tests are valid for windows of any size: the p-value is at
most u with probability at most u. Holm's correction (Scandinavian Journal of Statistics 1979) then
limits the probability of any false alarm in a window to ``alpha``, for any dependence between the
tests.

Related images, such as many of the same car, are not exchangeable with unrelated ones: a window of
them may be reported as different although the camera has not changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from carbench.data.images.statistics import IMAGE_STATISTICS
from carbench.deploy.bundle.observations import Observations

# Minimum number of images, in the window and in the reference, for any result.
MIN_IMAGES = 30
# Maximum images per sample in the energy test, whose memory and time grow quadratically.
MAX_EMBEDDINGS = 1000
# Number of tests: image statistics, confidence, classes and embedding.
TEST_COUNT = len(IMAGE_STATISTICS) + 3
# The smallest possible p-value of a permutation test, as a fraction of the strictest threshold of
# the correction; this determines the number of permutations.
P_VALUE_RESOLUTION = 0.1
# A permutation test stops after this many permutations as extreme as the observation.
MAX_EXCEEDANCES = 30
# Permutations that are computed at once.
BATCH_SIZE = 250
# Permutations within this relative tolerance count as equally extreme.
ROUNDING_TOLERANCE = 1e-5
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class TwoSampleResult:
    """Result of one test.

    Attributes:
        family: input, confidence, classes or embedding.
        name: the quantity that is compared.
        statistic: the test statistic; larger values mean a larger difference.
        effect: effect size, 0 to 1, independent of the number of images: the largest difference of
            the distribution functions; for classes the total variation distance; for the embedding
            the square root of the coefficient of inhomogeneity (Székely and Rizzo), which is the
            energy distance relative to the mean distance.
        p: the uncorrected p-value.
        p_adjusted: the p-value with Holm correction.
        different: whether ``p_adjusted`` is at most alpha.
        alarm: whether the test is different, has an effect of at least ``min_effect``, and is about
            the model's predictions or features. Cameras and files change in ways that do not affect
            a model: a difference in ``input`` only often leaves the accuracy unchanged.
        before, after: summary of reference and window: the ``median``; for classes the share of
            each; for the embedding the ``median_distance`` from the centre of the reference.
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
    """Result of drift detection for a window.

    Attributes:
        tests: result of each test; empty if there are not enough images.
        alpha: maximum false-alarm rate per window, on average over references.
        min_effect: minimum effect size of an alarm.
        reference, window: the two samples.
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
        """Whether both samples have at least ``MIN_IMAGES`` images."""
        return min(len(self.reference), len(self.window)) >= MIN_IMAGES

    @property
    def different(self) -> bool:
        """Whether any test is significant, whatever its effect size."""
        return any(test.different for test in self.tests)

    @property
    def alarm(self) -> bool:
        """Whether any test raises an alarm."""
        return any(test.alarm for test in self.tests)


def detect_drift(
    reference: Observations,
    window: Observations,
    classes: list[str],
    alpha: float,
    seed: int,
    min_effect: float = 0.0,
) -> DriftResult:
    """Compare a window of new images with the reference.

    Args:
        reference: images that were not used for training.
        window: new images, without repetitions.
        classes: the class names.
        alpha: maximum probability of any false alarm.
        seed: seed of the permutations.
        min_effect: minimum effect size of an alarm.
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
    results = [
        _uncorrected_result(
            family, name, _ks_result(before, after), _median(before), _median(after)
        )
        for family, name, before, after in columns
    ]
    counts = [np.bincount(each.predicted, minlength=len(classes)) for each in (reference, window)]
    tested = class_distribution_test(counts[0], counts[1], permutations, rng)
    shares = [dict(zip(classes, (each / each.sum()).tolist(), strict=True)) for each in counts]
    before, after = (np.array(list(each.values())) for each in shares)
    results.append(
        _uncorrected_result(
            "classes", "predicted class", (*tested, _total_variation(before, after)), *shares
        )
    )
    energy = energy_test(reference.embedding, window.embedding, permutations, rng)
    distances = [
        {"median_distance": float(np.median(distance_from_centre(reference, each)))}
        for each in (reference, window)
    ]
    results.append(_uncorrected_result("embedding", "embedding", energy, *distances))
    adjusted = holm_correction([test.p for test in results])
    tests = [
        replace(
            test,
            p_adjusted=corrected,
            different=corrected <= alpha,
            alarm=corrected <= alpha and test.family != "input" and test.effect >= min_effect,
        )
        for test, corrected in zip(results, adjusted, strict=True)
    ]
    return replace(untested, tests=tests)


def ks_test(before: Floats, after: Floats) -> tuple[float, float]:
    """Kolmogorov-Smirnov test of two samples, (N,) and (M,): return statistic and p-value.

    Exact up to 10,000 images, asymptotic above. With ties the p-value is conservative, because
    breaking ties at random can only increase the difference.
    """
    from scipy.stats import ks_2samp  # slow to import

    result = ks_2samp(before, after)
    return float(result.statistic), float(result.pvalue)


def class_distribution_test(
    before: Integers, after: Integers, permutations: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Permutation test of two rows of class counts, (K,) each: return chi-square and p-value.

    Under the null hypothesis the counts of the window are drawn without replacement from those of
    all images (multivariate hypergeometric), which is valid also for classes with few images.
    """
    present = before + after > 0
    before, after = before[present], after[present]
    both, count = before + after, int(after.sum())
    expected = both * (count / both.sum())
    # Covers both rows: the deviations of the reference are equal with the opposite sign.
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
    """Energy test of two samples, (N, D) and (M, D): return statistic, p-value and effect size.

    The energy distance is twice the mean distance between the samples minus the mean distances
    within each (Székely and Rizzo, Journal of Statistical Planning and Inference 2013); it is 0
    only for equal distributions. With the doubly centred distance matrix it is a quadratic form in
    the labels, so that many permutations are a single matrix product. Single precision is
    sufficient, as the centred matrix avoids the subtraction of large sums.
    """
    from scipy.spatial.distance import cdist  # slow to import

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


def sequential_p_value(statistic: float, permuted: Iterable[Floats]) -> float:
    """Return the p-value of a sequential permutation test.

    It stops at the MAX_EXCEEDANCES-th permutation as extreme as the observation (Besag and
    Clifford, Biometrika 1991): most windows are like the reference, which a few hundred
    permutations suffice to show.

    Args:
        statistic: the observed statistic.
        permuted: statistics of permuted samples, in batches.
    """
    drawn = exceedances = 0
    for batch in permuted:
        indices = np.flatnonzero(batch >= statistic * (1 - ROUNDING_TOLERANCE))
        if exceedances + len(indices) >= MAX_EXCEEDANCES:
            return float(MAX_EXCEEDANCES / (drawn + indices[MAX_EXCEEDANCES - exceedances - 1] + 1))
        drawn += len(batch)
        exceedances += len(indices)
    return (exceedances + 1) / (drawn + 1)


def holm_correction(p_values: list[float]) -> list[float]:
    """Return p-values with Holm correction, in the same order."""
    order = np.argsort(p_values)
    steps = np.array(p_values)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def distance_from_centre(reference: Observations, images: Observations) -> Floats:
    """Return the distances (N,) of images from the mean of the reference, in the embedding."""
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
    """Return the result of a test before the correction."""
    statistic, p, effect = tested
    return TwoSampleResult(family, name, statistic, effect, p, p, False, False, before, after)


def _ks_result(before: Floats, after: Floats) -> tuple[float, float, float]:
    """Return statistic, p-value and effect size; the statistic is the effect size."""
    statistic, p = ks_test(before, after)
    return statistic, p, statistic


def _total_variation(before: Floats, after: Floats) -> float:
    """Return the total variation distance of two class distributions, (K,) each."""
    return min(float(np.abs(before - after).sum()) / 2, 1.0)


def _batch_sizes(permutations: int) -> Iterator[int]:
    for start in range(0, permutations, BATCH_SIZE):
        yield min(BATCH_SIZE, permutations - start)


def _subsample(points: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return at most MAX_EMBEDDINGS of the points (N, D), drawn at random."""
    if len(points) <= MAX_EMBEDDINGS:
        return points
    return points[rng.choice(len(points), MAX_EMBEDDINGS, replace=False)]


def _median(column: Floats) -> dict[str, float]:
    return {"median": float(np.median(column))}
