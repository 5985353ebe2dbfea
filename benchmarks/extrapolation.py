"""Measure the coverage of extrapolated learning curves in simulated studies.

`python benchmarks/extrapolation.py` prints the table of docs/learning_curve.md as Markdown;
`--studies` sets the number of studies per scenario (default 1000).

The true error is error(n) = floor + b * n ** -0.35, and 20 % with all images. Val images differ in
difficulty, which is the same for all training runs; a quarter of the variance is noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from simulating import mean_of_studies, simulate_and_print

from carbench.statistics.learning_curves import fit_learning_curve
from carbench.statistics.subset_runs import SubsetRuns

FRACTIONS = (0.25, 0.5, 1.0)
IMAGES, ERROR, EXPONENT = 1000, 0.2, 0.35
HARDNESS, CHANCE = 3.0, 1.0
FACTOR, CONFIDENCE = 2.0, 0.95


@dataclass(frozen=True)
class Scenario:
    """A kind of study.

    Attributes:
        images: number of val images.
        floor: fraction of the error with all images that never disappears.
        spread: standard deviation of the error over training runs with all images.
    """

    seeds: int
    images: int
    floor: float
    spread: float

    def error(self, images: float) -> float:
        """Return the true error."""
        falling = (1 - self.floor) * (images / IMAGES) ** -EXPONENT
        return float(ERROR * (self.floor + falling))


def simulate(scenario: Scenario, rng: np.random.Generator) -> SubsetRuns:
    """Draw a study of one backbone."""
    counts = [fraction * IMAGES for fraction in FRACTIONS]
    errors = np.array([scenario.error(count) for count in counts])
    within = HARDNESS + CHANCE
    steepness = np.exp(-(ndtri(errors) ** 2) / 2) / np.sqrt(2 * np.pi * within)
    luck = scenario.spread * errors / ERROR / steepness
    ability = ndtri(1 - errors) * np.sqrt(within + luck**2)
    shape = (len(FRACTIONS), scenario.seeds, scenario.images)
    level = ability[:, None] + luck[:, None] * rng.normal(size=shape[:2])
    hardness = np.sqrt(HARDNESS) * rng.normal(size=scenario.images)
    right = level[..., None] + hardness + np.sqrt(CHANCE) * rng.normal(size=shape) > 0
    groups, tested = np.arange(scenario.images), np.ones(shape[1:], np.bool_)
    return SubsetRuns(list(FRACTIONS), counts, 0, groups, right, tested)


def judge(scenario: Scenario, runs: SubsetRuns) -> list[float]:
    """Return the estimated gain, its interval's width, and whether intervals contain the truth.

    The last two values are 0 or 1: for the interval of the gain, and for that of the accuracy.
    """
    curve = fit_learning_curve(runs.scores(), runs.fractions, runs.images, FACTOR, CONFIDENCE)
    assert curve.extrapolation
    gain, accuracy = curve.extrapolation.gain, curve.extrapolation.accuracy
    after = scenario.error(FACTOR * IMAGES)
    return [
        gain.value,
        gain.high - gain.low,
        float(gain.low <= ERROR - after <= gain.high),
        float(accuracy.low <= 1 - after <= accuracy.high),
    ]


def scenarios() -> list[Scenario]:
    """Return the scenarios to tabulate.

    With one seed the spread is 0, because the variance between training runs cannot be estimated.
    """
    return [
        Scenario(seeds, images, floor, spread)
        for seeds in (1, 2, 3)
        for images in (200, 800)
        for floor in (0.0, 0.25, 0.5)
        for spread in ((0.0,) if seeds == 1 else (0.01, 0.02))
    ]


def average(scenario: Scenario, studies: int) -> list[float]:
    """Return the mean of :func:`judge` over many studies of a scenario."""
    return mean_of_studies(scenario, studies, lambda rng: judge(scenario, simulate(scenario, rng)))


def table(found: dict[Scenario, list[float]]) -> str:
    """Return a Markdown table with one row per scenario."""
    lines = [
        "| seeds | val images | floor | spread | true gain | found | width | coverage, gain "
        "| coverage, accuracy |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for each, (gain, width, held, accuracy) in found.items():
        true = ERROR - each.error(FACTOR * IMAGES)
        points = [
            f"{100 * value:.1f}" for value in (each.spread, true, gain, width, held, accuracy)
        ]
        lines.append(
            f"| {each.seeds} | {each.images} | {each.floor:g} | " + " | ".join(points) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Simulate and print."""
    simulate_and_print(__doc__, scenarios(), average, table)


if __name__ == "__main__":
    main()
