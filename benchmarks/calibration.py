"""Measure the coverage of the intervals of NLL and calibration error in simulated studies.

`python benchmarks/calibration.py` prints the table of docs/statistics.md as Markdown; `--studies`
sets the number of studies per scenario (default 500).

A training run classifies a simulated image correctly with a certain probability; its confidence is
that probability, with the logit multiplied by a stretch factor: 1 is calibrated, above 1 is
overconfident. Images differ in difficulty, and training runs at random. Whether the training runs
of one backbone are right about an image is correlated, through a normal copula with correlation
0.6. Images of one duplicate group share all but a tenth of the variance. The true values are
computed from 400,000 images, with the same number of bins.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from multiprocessing import Pool

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr
from simulating import timed

from carbench.statistics.calibration_intervals import (
    calibration_error_interval,
    calibration_error_score,
    loss_interval,
)
from carbench.statistics.estimates import estimate
from carbench.statistics.jackknife import Groups
from carbench.statistics.scores import ratio_scores

BINS = 10
HARDNESS = 2.0  # standard deviation over images of the logit of being right
TOGETHER = 0.6  # correlation between the training runs of a backbone
ALIKE = 0.9  # fraction of the variance that the images of a duplicate group share
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Scenario:
    """A kind of study.

    Attributes:
        level: the logit of being right about an image of median difficulty.
        stretch: factor of the confidence's logit; 1 is calibrated.
        luck: standard deviation of ``level`` over training runs.
    """

    groups: int
    seeds: int
    level: float
    stretch: float
    luck: float = 0.15


def draw(
    scenario: Scenario, groups: NDArray[np.int64], luck: Numbers, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], Numbers, Numbers]:
    """Return right, confidence and loss of two classes, each of shape (seeds, images)."""

    def shared(*shape: int) -> Numbers:
        """Return normal variables that are strongly correlated within a group."""
        common = rng.normal(size=(*shape, groups.max() + 1))[..., groups]
        own = rng.normal(size=(*shape, len(groups)))
        return np.sqrt(ALIKE) * common + np.sqrt(1 - ALIKE) * own

    hard = scenario.level + luck[:, None] + HARDNESS * shared(1)
    chance = 0.5 + 0.5 * expit(hard)  # two classes: at worst a guess
    copula = np.sqrt(TOGETHER) * shared(1) + np.sqrt(1 - TOGETHER) * shared(len(luck))
    right = ndtr(copula) < chance
    sure = expit(scenario.stretch * np.log(chance / (1 - chance)))
    return right, sure, -np.log(np.where(right, sure, 1 - sure))


def truth(scenario: Scenario, rng: np.random.Generator) -> tuple[float, float]:
    """Return the true NLL and calibration error, averaged over training runs."""
    alone = np.arange(2000 * 200)
    lucks = np.linspace(-1.65, 1.65, 12) * scenario.luck if scenario.seeds > 1 else np.zeros(1)
    weights = np.exp(-((lucks / max(scenario.luck, 1e-9)) ** 2) / 2)
    found = []
    for luck in lucks:
        hard = scenario.level + luck + HARDNESS * rng.normal(size=len(alone))
        chance = 0.5 + 0.5 * expit(hard)
        sure = expit(scenario.stretch * np.log(chance / (1 - chance)))
        loss = -(chance * np.log(sure) + (1 - chance) * np.log(1 - sure)).mean()
        parts = np.array_split(np.argsort(sure), BINS)
        gaps = [abs((chance[part] - sure[part]).mean()) / BINS for part in parts]
        found.append((loss, sum(gaps)))
    nll, ece = np.average(found, axis=0, weights=weights)
    return float(nll), float(ece)


def judge(task: tuple[Scenario, int]) -> list[float]:
    """Return true value, coverage and mean width for NLL, then for the calibration error."""
    scenario, studies = task
    rng = np.random.default_rng(list(os.fsencode(repr(scenario))))
    true = truth(scenario, rng)
    held, widths = np.zeros((studies, 2)), np.zeros((studies, 2))
    for study in range(studies):
        sizes = np.ones(scenario.groups, np.int64)
        twins = rng.random(scenario.groups) < 0.15
        sizes[twins] = rng.integers(2, 6, twins.sum())
        groups = np.repeat(np.arange(scenario.groups), sizes)
        luck = rng.normal(size=scenario.seeds) * scenario.luck * (scenario.seeds > 1)
        right, sure, loss = draw(scenario, groups, luck, rng)
        known = Groups(groups)
        tested = np.ones(right.shape, np.bool_)
        (score,) = ratio_scores(known, loss[None], tested[None], tested[None], is_share=False)
        error, noise = calibration_error_score(known, right, sure, tested, BINS)
        intervals = (
            loss_interval(estimate(score), 0.95),
            calibration_error_interval(estimate(error), noise, 0.95),
        )
        for column, (interval, value) in enumerate(zip(intervals, true, strict=True)):
            held[study, column] = interval.low <= value <= interval.high
            widths[study, column] = interval.high - interval.low
    return [
        *(true[0], held[:, 0].mean(), widths[:, 0].mean()),
        *(true[1], held[:, 1].mean(), widths[:, 1].mean()),
    ]


@timed()
def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=500, help="studies per scenario")
    parser.add_argument("--processes", type=int, help="default: one per core")
    arguments = parser.parse_args()
    chosen = [
        Scenario(groups, seeds, 2.5, stretch)
        for seeds in (1, 3, 5)
        for groups in (60, 200, 800)
        for stretch in (1.0, 1.3, 2.0)
    ]
    print(
        "| seeds | groups | stretch | NLL | coverage | width | ECE, % | coverage | width, points |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    with Pool(arguments.processes) as pool:
        tasks = [(each, arguments.studies) for each in chosen]
        for each, found in zip(chosen, pool.imap(judge, tasks), strict=True):
            nll, nll_held, nll_width, ece, ece_held, ece_width = found
            print(
                f"| {each.seeds} | {each.groups} | {each.stretch:g} | {nll:.3f} | "
                f"{100 * nll_held:.1f} | {nll_width:.3f} | {100 * ece:.1f} | "
                f"{100 * ece_held:.1f} | {100 * ece_width:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
