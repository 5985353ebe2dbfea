"""How often a window raises an alarm if nothing has changed, for this one reference.

The chance that is promised, ``alpha``, is an average over references: one that was drawn to be a
little unusual raises more alarms in every window, another fewer. How much references differ is seen
by resampling: the reference is dealt into two halves, of which one is the reference and windows are
drawn from the other, which stands for new images without a change. The rates of many halves are
spread a little more widely than those of whole references, which are twice as large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carbench.core.errors import CarbenchError
from carbench.deploy.bundle.observations import Observations
from carbench.deploy.drift.two_sample_tests import MIN_IMAGES, detect_drift


@dataclass(frozen=True)
class FalseAlarmRates:
    """Rates of false alarms of windows.

    Attributes:
        rates: (H,) one for each half that was the reference.
        images: in a window.
        windows: that each rate is of.
    """

    rates: list[float]
    images: int
    windows: int

    def quantile(self, share: float) -> float:
        """Return the rate that this share of the halves does not exceed."""
        return float(np.quantile(self.rates, share, method="inverted_cdf"))

    @property
    def mean(self) -> float:
        """The average over references, which ``alpha`` bounds."""
        return float(np.mean(self.rates))


def estimate_false_alarms(
    reference: Observations,
    classes: list[str],
    alpha: float,
    seed: int,
    images: int,
    min_effect: float = 0.0,
    halves: int = 40,
    windows: int = 100,
) -> FalseAlarmRates:
    """Return how often windows without a change raise an alarm.

    Args:
        reference: of a model.
        classes: the class names.
        alpha: the promised rate.
        seed: of the draws.
        images: in a window, at most half as many as in a half of the reference.
        min_effect: effect size from which a difference is an alarm.
        halves: references that are tried.
        windows: that are drawn for each.

    Raises:
        CarbenchError: the reference is too small for windows of a useful size.
    """
    half = len(reference) // 2
    images = min(images, half // 2)
    if images < MIN_IMAGES:
        raise CarbenchError(
            "the reference",
            found=f"{len(reference)} images",
            expected=f"at least {4 * MIN_IMAGES}, to be dealt into halves and windows",
            fix="do without --false-alarms, or export with a larger validation part",
        )
    rng = np.random.default_rng(seed)
    rates = []
    for _ in range(halves):
        order = rng.permutation(len(reference))
        known, new = _subset(reference, order[:half]), order[half:]
        alarms = sum(
            detect_drift(
                known,
                _subset(reference, rng.choice(new, images, replace=False)),
                classes,
                alpha,
                int(rng.integers(2**31)),
                min_effect,
            ).alarm
            for _ in range(windows)
        )
        rates.append(alarms / windows)
    return FalseAlarmRates(rates, images, windows)


def _subset(seen: Observations, rows: NDArray[np.int64]) -> Observations:
    statistics = {name: column[rows] for name, column in seen.statistics.items()}
    return Observations(
        statistics, seen.predicted[rows], seen.confidence[rows], seen.embedding[rows]
    )
