"""Whether new pictures differ from those that the model knows: two-sample tests, corrected.

Each test asks whether the window could be drawn from the same pictures as the reference. Holm's
step-down correction (Scandinavian Journal of Statistics 1979) keeps the chance that any of them is
wrong about a window below ``alpha``, however they hang together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carbench.deployed.observations import Observations

# Fewer pictures, of window or reference, tell nothing.
FEWEST = 30
# Of the reference and the window, at most, in the test that grows with their product.
MOST_EMBEDDED = 1000
# Relabelings of pictures; the smallest p-value is one by these.
PERMUTATIONS = 4999
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Test:
    """One test of a window.

    Attributes:
        family: input, classes, confidence or embedding.
        name: of what is compared.
        statistic: of the test; larger is further apart.
        p: how probable at least that is if nothing has changed.
        p_adjusted: corrected for the number of tests.
        alarm: whether p_adjusted is at most alpha.
        before, after: what a person may compare: medians, or shares of the classes.
    """

    family: str
    name: str
    statistic: float
    p: float
    p_adjusted: float
    alarm: bool
    before: str
    after: str


@dataclass(frozen=True)
class Drift:
    """What the tests say of a window.

    Attributes:
        tests: all tests; none where there are not enough pictures.
        alpha: the chance of any false alarm, at most.
        reference, window: what was compared.
        classes: the class names.
    """

    tests: list[Test]
    alpha: float
    reference: Observations
    window: Observations
    classes: list[str]

    @property
    def enough(self) -> bool:
        """Whether there were enough pictures to say anything."""
        return min(len(self.reference), len(self.window)) >= FEWEST

    @property
    def alarm(self) -> bool:
        """Whether anything has changed."""
        return any(test.alarm for test in self.tests)


def compare(
    reference: Observations, window: Observations, classes: list[str], alpha: float, seed: int
) -> Drift:
    """Hold a window against the reference.

    Args:
        reference: pictures that the model was not trained on, when it was exported.
        window: new pictures.
        classes: the class names.
        alpha: how probable any false alarm may be.
        seed: of the relabelings.
    """
    drift = Drift([], alpha, reference, window, classes)
    if not drift.enough:
        return drift
    dice = np.random.default_rng(seed)
    found: list[tuple[str, str, float, float, str, str]] = []
    columns = [
        ("input", name, before, window.statistics[name])
        for name, before in reference.statistics.items()
    ]
    columns.append(("confidence", "confidence", reference.confidence, window.confidence))
    for family, name, old, new in columns:
        statistic, p = kolmogorov_smirnov(old, new)
        found.append((family, name, statistic, p, _median(old), _median(new)))
    before, after = (
        np.bincount(each.predicted, minlength=len(classes)) for each in (reference, window)
    )
    statistic, p = class_test(before, after, dice)
    shares = _most(before, classes), _most(after, classes)
    found.append(("classes", "predicted classes", statistic, p, *shares))
    statistic, p = energy_test(reference.embedding, window.embedding, dice)
    found.append(("embedding", "embedding", statistic, p, "", ""))
    adjusted = holm([each[3] for each in found])
    tests = [
        Test(family, name, statistic, p, fixed, fixed <= alpha, *shown)
        for (family, name, statistic, p, *shown), fixed in zip(found, adjusted, strict=True)
    ]
    return Drift(tests, alpha, reference, window, classes)


def kolmogorov_smirnov(before: Numbers, after: Numbers) -> tuple[float, float]:
    """Return the largest distance of the two distribution functions, and its p-value."""
    from scipy.stats import ks_2samp

    result = ks_2samp(
        before, after, method="asymp" if len(before) * len(after) > 10_000 else "auto"
    )
    return float(result.statistic), float(result.pvalue)


def class_test(
    before: NDArray[np.int64], after: NDArray[np.int64], dice: np.random.Generator
) -> tuple[float, float]:
    """Return the chi-square of two rows of counts (K,), and its p-value by relabeling.

    Relabeled counts are hypergeometric, so that classes of few pictures do no harm.
    """
    both = before + after
    kept = both > 0
    drawn = dice.multivariate_hypergeometric(both[kept], int(after.sum()), size=PERMUTATIONS)
    expected = both[kept] * after.sum() / both.sum()
    own = float((((after[kept] - expected) ** 2) / expected).sum())
    by_chance = (((drawn - expected) ** 2) / expected).sum(axis=1)
    return own, _p_value(own, by_chance)


def energy_test(
    before: NDArray[np.float32], after: NDArray[np.float32], dice: np.random.Generator
) -> tuple[float, float]:
    """Return the energy distance of two clouds of points (N, D) and (M, D), and its p-value.

    Twice the mean distance between the clouds minus the mean distances within each (Szekely and
    Rizzo, Journal of Statistical Planning and Inference 2013). The p-value is by relabeling.
    """
    before, after = (_some(each, dice) for each in (before, after))
    points = np.concatenate([before, after]).astype(np.float64)
    squares = (points**2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0))
    np.fill_diagonal(distances, 0)
    new = np.zeros((1 + PERMUTATIONS, len(points)), np.float32)
    new[0, len(before) :] = 1
    for row in new[1:]:
        row[dice.permutation(len(points))[: len(after)]] = 1
    # With 1 for new and 0 for old points: sums of distances within the new, from the new to all.
    narrow = distances.astype(np.float32)
    to_new = new @ narrow
    within_new = (to_new * new).sum(axis=1, dtype=np.float64)
    from_new = to_new.sum(axis=1, dtype=np.float64)
    between = from_new - within_new
    within_old = narrow.sum(dtype=np.float64) - 2 * between - within_new
    n, m = len(before), len(after)
    energies = 2 * between / (n * m) - within_new / m**2 - within_old / n**2
    return float(energies[0]), _p_value(float(energies[0]), energies[1:])


def holm(p_values: list[float]) -> list[float]:
    """Return p-values corrected for their number, in the same order."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return [float(each) for each in adjusted]


def _p_value(own: float, by_chance: Numbers) -> float:
    """How often chance is as extreme, the observed one counted in (Phipson and Smyth, 2010)."""
    return (1 + int((by_chance >= own * (1 - 1e-6)).sum())) / (1 + len(by_chance))


def _some(points: NDArray[np.float32], dice: np.random.Generator) -> NDArray[np.float32]:
    if len(points) <= MOST_EMBEDDED:
        return points
    return points[np.sort(dice.choice(len(points), MOST_EMBEDDED, replace=False))]


def _median(column: Numbers) -> str:
    return f"{np.median(column):.3f}"


def _most(counts: NDArray[np.int64], classes: list[str]) -> str:
    place = int(counts.argmax())
    return f"{classes[place]} {100 * counts[place] / counts.sum():.0f} %"
