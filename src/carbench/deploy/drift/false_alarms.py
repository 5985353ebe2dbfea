"""Estimation of the false-alarm rate for a given reference, by resampling.

The guaranteed rate, ``alpha``, is an average over references: a reference that is unusual by chance
raises more alarms, others fewer. Resampling shows how much references vary: the reference is split
into halves at random, one half serves as reference, and windows without any change are drawn from
the other half. The rates of halves vary slightly more than those of full references, which are
twice as large.
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
    """Estimated false-alarm rates.

    Attributes:
        rates: (H,) one rate per half that served as reference.
        images: number of images per window.
        windows: number of windows per rate.
    """

    rates: list[float]
    images: int
    windows: int

    def quantile(self, share: float) -> float:
        """Return a quantile of the rates."""
        return float(np.quantile(self.rates, share, method="inverted_cdf"))

    @property
    def mean(self) -> float:
        """Mean rate over references, which ``alpha`` bounds."""
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
    """Estimate how often windows without a change raise an alarm.

    Args:
        reference: reference observations of a model.
        classes: the class names.
        alpha: the guaranteed rate.
        seed: random seed.
        images: images per window; limited to half of a half of the reference.
        min_effect: minimum effect size of an alarm.
        halves: number of halves that serve as reference.
        windows: number of windows per half.

    Raises:
        CarbenchError: the reference is too small for windows of a useful size.
    """
    half = len(reference) // 2
    images = min(images, half // 2)
    if images < MIN_IMAGES:
        raise CarbenchError(
            "the reference",
            found=f"{len(reference)} images",
            expected=f"at least {4 * MIN_IMAGES}, to be split into halves and windows",
            fix="omit --false-alarms, or export with a larger validation set",
        )
    rng = np.random.default_rng(seed)
    rates = []
    for _ in range(halves):
        order = rng.permutation(len(reference))
        half_reference, new = _subset(reference, order[:half]), order[half:]
        alarms = sum(
            detect_drift(
                half_reference,
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


def _subset(observations: Observations, rows: NDArray[np.int64]) -> Observations:
    statistics = {name: column[rows] for name, column in observations.statistics.items()}
    return Observations(
        statistics,
        observations.predicted[rows],
        observations.confidence[rows],
        observations.embedding[rows],
    )
