"""How often intervals hold the truth, over many simulated studies whose truth is known.

Run by hand: `python benchmarks/coverage.py` prints the tables of docs/statistics.md as markdown;
`--studies` of each scenario (default 1000), `--resamples` of each study (default 400).

A simulated picture is right where a sum of normal variables is positive: how able the backbone is,
how lucky the training, how hard the picture is for all backbones, how hard for this one, and chance
that is new with every training. Of the variance within a training half is hardness for all, a
quarter hardness for one backbone, a quarter chance: two trainings of one backbone are then right
and wrong together with a phi coefficient of 0.47 at 80 %, two backbones with 0.26. Pictures of one
duplicate group share all but a fortieth.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from itertools import combinations
from multiprocessing import Pool

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from carbench.provenance import hardware
from carbench.statistics.bootstrap import Bootstrap
from carbench.statistics.comparing import compare
from carbench.statistics.intervals import share_interval
from carbench.statistics.scoring import part_scores

SHARED, OWN, CHANCE, CHANCE_APART = 2.0, 1.0, 0.9, 0.1
WITHIN = SHARED + OWN + CHANCE + CHANCE_APART
# Backbones of a study, by how much better than the first.
OFFSETS = (0.0, -0.01, -0.03, 0.02)


@dataclass(frozen=True)
class Scenario:
    """A kind of study: accuracy of its first backbone, spread of its trainings as a part of one."""

    groups: int
    seeds: int
    accuracy: float
    spread: float
    folds: int = 1


@dataclass(frozen=True)
class Study:
    """A simulated study: (backbones, seeds, N) right, tested by seed, and the truth."""

    right: NDArray[np.bool_]
    tested: NDArray[np.bool_]
    groups: NDArray[np.int64]
    truth: NDArray[np.float64]


def simulate(scenario: Scenario, dice: np.random.Generator) -> Study:
    """Draw a study. With one seed the truth is the expected accuracy of that very training."""
    sizes = np.ones(scenario.groups, np.int64)
    twins = dice.random(scenario.groups) < 0.15
    sizes[twins] = dice.integers(2, 6, twins.sum())
    groups = np.repeat(np.arange(scenario.groups), sizes)
    backbones, seeds = len(OFFSETS), scenario.seeds
    accuracies = np.minimum(scenario.accuracy + np.array(OFFSETS), 0.98)
    # The spread of the normal variable that makes this spread of the accuracy.
    steepness = np.exp(-(ndtri(accuracies) ** 2) / 2) / np.sqrt(2 * np.pi * WITHIN)
    luck_spread = scenario.spread / steepness
    ability = ndtri(accuracies) * np.sqrt(WITHIN + luck_spread**2)
    luck = dice.normal(size=(backbones, seeds)) * luck_spread[:, None]

    def draw(variance: float, *shape: int) -> NDArray[np.float64]:
        return np.sqrt(variance) * dice.normal(size=shape)

    hardness = draw(SHARED, 1, 1, scenario.groups) + draw(OWN, backbones, 1, scenario.groups)
    chance = draw(CHANCE, backbones, seeds, scenario.groups)
    apart = draw(CHANCE_APART, backbones, seeds, len(groups))
    level = (ability[:, None] + luck)[..., None]
    right = level + (hardness + chance)[..., groups] + apart > 0
    fold_of_group = dice.permutation(scenario.groups) % scenario.folds
    fold_of_seed = np.arange(seeds) % scenario.folds
    tested = fold_of_group[groups] == fold_of_seed[:, None]
    alone = ndtr((ability + luck[:, 0]) / np.sqrt(WITHIN))
    return Study(right, tested, groups, alone if seeds == 1 else accuracies)


def judge(study: Study, resamples: int, seed: int, confidence: float = 0.95) -> list[float]:
    """Return the share of accuracies held, of single pairs, and whether all pairs were at once."""
    bootstrap = Bootstrap(study.groups, resamples, seed)
    names = [str(number) for number in range(len(study.truth))]
    scores = part_scores(
        bootstrap,
        study.right,
        np.broadcast_to(study.tested, study.right.shape),
    )
    estimates = {name: score.estimate() for name, score in zip(names, scores, strict=True)}
    intervals = [share_interval(estimate, confidence) for estimate in estimates.values()]
    accuracies = [
        interval.low <= truth <= interval.high
        for interval, truth in zip(intervals, study.truth, strict=True)
    ]
    pairs, together = [], []
    for first, second in combinations(names, 2):
        truth = study.truth[int(first)] - study.truth[int(second)]
        two = {name: estimates[name] for name in (first, second)}
        alone = compare(two, confidence, seed)[0].difference
        pairs.append(alone.low <= truth <= alone.high)
    for comparison in compare(estimates, confidence, seed):
        truth = study.truth[int(comparison.backbone)] - study.truth[int(comparison.other)]
        together.append(comparison.difference.low <= truth <= comparison.difference.high)
    return [
        float(np.mean(accuracies)),
        float(np.mean(pairs)),
        float(all(together)),
    ]


def coverage(scenario: Scenario, studies: int, resamples: int, seed: int = 0) -> list[float]:
    """Return the mean of :func:`judge` over many studies of a scenario."""
    dice = np.random.default_rng([seed, *map(int, os.fsencode(repr(scenario)))])
    judged = [judge(simulate(scenario, dice), resamples, number) for number in range(studies)]
    return [float(mean) for mean in np.mean(judged, axis=0)]


def scenarios() -> list[Scenario]:
    """Return what is tabulated: test sets, seeds, accuracies and spreads of realistic studies."""
    plain = [
        Scenario(groups, seeds, accuracy, spread)
        for seeds in (1, 2, 3, 5)
        for groups in (60, 200, 800)
        for accuracy in (0.6, 0.8, 0.95)
        for spread in ((0.01,) if seeds == 1 else (0.0, 0.01, 0.03))
    ]
    folds = [
        Scenario(groups, seeds, 0.8, 0.01, folds=5) for seeds in (5, 10) for groups in (200, 800)
    ]
    return plain + folds


def table(found: dict[Scenario, list[float]]) -> str:
    """Return a markdown table: a row for scenarios that differ by the trainings' spread only."""
    lines = [
        "| seeds | folds | groups | accuracy | accuracies | single pairs | all pairs at once |",
        "|--:|--:|--:|--:|---|---|---|",
    ]
    rows: dict[tuple[int, int, int, float], list[list[float]]] = {}
    for each, numbers in found.items():
        row = (each.seeds, each.folds, each.groups, each.accuracy)
        rows.setdefault(row, []).append(numbers)
    for (seeds, folds, groups, accuracy), by_spread in rows.items():
        cells = [
            " / ".join(f"{100 * share:.1f}" for share in shares)
            for shares in zip(*by_spread, strict=True)
        ]
        lines.append(
            f"| {seeds} | {folds if folds > 1 else ''} | {groups} | {100 * accuracy:.0f} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines)


def _work(task: tuple[Scenario, int, int]) -> list[float]:
    return coverage(*task)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000, help="of each scenario")
    parser.add_argument("--resamples", type=int, default=400, help="of each study")
    arguments = parser.parse_args()
    started = time.perf_counter()
    chosen = scenarios()
    with Pool() as pool:
        tasks = [(each, arguments.studies, arguments.resamples) for each in chosen]
        print(table(dict(zip(chosen, pool.map(_work, tasks, chunksize=1), strict=True))))
    print(json.dumps(hardware()), f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
