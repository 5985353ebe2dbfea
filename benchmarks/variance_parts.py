"""Measure estimates and coverage of the variance components of seeds and splits, in simulations.

`python benchmarks/variance_parts.py` prints the table of docs/statistics.md as Markdown;
`--studies` sets the number of studies per scenario (default 1000).

Images are classified as in benchmarks/coverage.py, with a random effect of the split in addition to
that of the training run. With `published`, all splits share their test images; with `grouped`, each
split tests a random quarter of the groups. Estimates are roots of mean variances, in points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from coverage import CHANCE, CHANCE_APART, OWN, SHARED, WITHIN
from numpy.typing import NDArray
from scipy.special import ndtri
from simulating import mean_of_studies, simulate_and_print

from carbench.statistics.confidence_intervals import share_interval
from carbench.statistics.estimates import estimate
from carbench.statistics.jackknife import Groups
from carbench.statistics.scores import subset_scores
from carbench.statistics.variance_components import variance_components

CONFIDENCE = 0.95
TESTED = 0.25  # fraction of the groups that each split of `grouped` tests


@dataclass(frozen=True)
class Scenario:
    """A kind of study of one backbone.

    Attributes:
        groups: number of duplicate groups in the test set; with ``grouped``, in all images.
        seed_spread, split_spread: standard deviations of the accuracy.
    """

    method: str
    splits: int
    seeds: int
    groups: int
    seed_spread: float
    split_spread: float
    accuracy: float = 0.8


@dataclass(frozen=True)
class Study:
    """A simulated study of S training runs and N images.

    Attributes:
        right, tested: (S, N).
        groups: (N,).
        splits: (S,).
    """

    right: NDArray[np.bool_]
    tested: NDArray[np.bool_]
    groups: NDArray[np.int64]
    splits: NDArray[np.int64]


def simulate(scenario: Scenario, rng: np.random.Generator) -> Study:
    """Draw a study; seed s uses split s mod splits."""
    sizes = np.ones(scenario.groups, np.int64)
    twins = rng.random(scenario.groups) < 0.15
    sizes[twins] = rng.integers(2, 6, twins.sum())
    groups = np.repeat(np.arange(scenario.groups), sizes)
    trainings = scenario.splits * scenario.seeds
    splits = np.arange(trainings) % scenario.splits
    steepness = np.exp(-(ndtri(scenario.accuracy) ** 2) / 2) / np.sqrt(2 * np.pi * WITHIN)
    by_seed, by_split = scenario.seed_spread / steepness, scenario.split_spread / steepness
    ability = ndtri(scenario.accuracy) * np.sqrt(WITHIN + by_seed**2 + by_split**2)
    level = ability + by_seed * rng.normal(size=trainings)
    level += by_split * rng.normal(size=scenario.splits)[splits]
    hardness = np.sqrt(SHARED + OWN) * rng.normal(size=scenario.groups)
    chance = np.sqrt(CHANCE) * rng.normal(size=(trainings, scenario.groups))
    apart = np.sqrt(CHANCE_APART) * rng.normal(size=(trainings, len(groups)))
    right = level[:, None] + (hardness + chance)[:, groups] + apart > 0
    tested = np.ones_like(right)
    if scenario.method == "grouped":
        drawn = rng.random((scenario.splits, scenario.groups)).argsort(axis=1)
        tested = (drawn < TESTED * scenario.groups)[splits][:, groups]
    return Study(right & tested, tested, groups, splits)


def judge(scenario: Scenario, study: Study) -> list[float]:
    """Return estimates, and whether intervals contain the true value (0 or 1).

    Returns:
        Variance of seeds, coverage; variance of splits, coverage; coverage of the accuracy with
        splits, and with splits treated as seeds.
    """
    found = []
    held = []
    for splits in (study.splits, None):
        groups = Groups(study.groups, splits)
        (score,) = subset_scores(groups, study.right, study.tested[None])
        interval = share_interval(estimate(score), CONFIDENCE)
        held.append(float(interval.low <= scenario.accuracy <= interval.high))
        if splits is None:
            continue
        parts = {part.name: part for part in variance_components(score, CONFIDENCE)}
        for name, truth in (("seed", scenario.seed_spread), ("split", scenario.split_spread)):
            part = parts[name]
            assert part.variance is not None and part.low is not None and part.high is not None
            found += [part.variance, float(part.low <= truth**2 <= part.high)]
    return [*found, *held]


def scenarios() -> list[Scenario]:
    """Return the scenarios to tabulate."""
    return [
        Scenario(method, splits, seeds, groups, *spreads)
        for method, groups in (("published", 200), ("published", 3200), ("grouped", 1200))
        for splits, seeds in ((2, 2), (3, 2), (5, 2), (5, 3))
        for spreads in ((0.01, 0.0), (0.01, 0.02), (0.02, 0.02))
    ]


def average(scenario: Scenario, studies: int) -> list[float]:
    """Return the mean of :func:`judge` over many studies of a scenario."""
    return mean_of_studies(scenario, studies, lambda rng: judge(scenario, simulate(scenario, rng)))


def table(found: dict[Scenario, list[float]]) -> str:
    """Return a Markdown table with one row per scenario."""
    lines = [
        "| method | splits x seeds | groups | seed: true | found | coverage | split: true | found "
        "| coverage | coverage, accuracy | splits ignored |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for each, (seed, seed_held, split, split_held, held, ignored) in found.items():
        cells = [
            each.method,
            f"{each.splits} x {each.seeds}",
            str(each.groups),
            f"{100 * each.seed_spread:.1f}",
            f"{100 * seed**0.5:.1f}",
            f"{100 * seed_held:.0f}",
            f"{100 * each.split_spread:.1f}",
            f"{100 * split**0.5:.1f}",
            f"{100 * split_held:.0f}",
            f"{100 * held:.0f}",
            f"{100 * ignored:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Simulate and print."""
    simulate_and_print(__doc__, scenarios(), average, table)


if __name__ == "__main__":
    main()
