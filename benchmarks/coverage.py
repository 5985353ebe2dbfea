"""Measure the coverage of intervals in simulated studies whose true accuracies are known.

`python benchmarks/coverage.py` prints the tables of docs/statistics.md as Markdown; `--studies`
sets the number of studies per scenario (default 1000), `--write` writes the file that the report
cites.

A simulated image is classified correctly if a sum of normal variables is positive: the backbone's
ability, a random effect of the training run, the image's difficulty for all backbones, its
difficulty for this backbone, and noise that is drawn for every training run. Of the variance within
a training run, half is difficulty for all backbones, a quarter difficulty for one backbone and a
quarter noise. At an accuracy of 80 %, the correctness of two training runs then has a phi
coefficient of 0.47 if they have the same backbone, and 0.26 if not. Images of one duplicate group
share all but a fortieth of the variance.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from simulating import timed

from carbench.core.tables import write_table
from carbench.params.choose import ChooseParams
from carbench.statistics.confidence_intervals import Interval, difference_interval, share_interval
from carbench.statistics.estimates import PRIOR_DOF, estimate_jointly
from carbench.statistics.jackknife import Groups
from carbench.statistics.model_selection import choose
from carbench.statistics.paired_comparisons import compare_pairs
from carbench.statistics.prediction_costs import Cost
from carbench.statistics.predictions import AlignedPredictions
from carbench.statistics.scores import subset_scores

SHARED, OWN, CHANCE, CHANCE_APART = 2.0, 1.0, 0.9, 0.1
WITHIN = SHARED + OWN + CHANCE + CHANCE_APART
# By how much each backbone of a study is better than the first.
OFFSETS = (0.0, -0.01, -0.03, 0.02)
CONFIDENCE = 0.95
MARGIN = 0.01
# Enough for percentages over studies; a real study draws more.
DRAWS = 4_000
# The power is computed for pairs of backbones that truly differ by at least this much.
TELLING = 0.0299
# Coverage in this range counts as good as 95 %.
GOOD = (0.93, 0.97)
SPREADS = (0.0, 0.01, 0.03)
UNEQUAL = (
    (0.0025, 0.005, 0.01, 0.02),
    (0.02, 0.0025, 0.0025, 0.0025),
    (0.005, 0.01, 0.02, 0.04),
    (0.0, 0.03, 0.0, 0.03),
)
CITED = Path(__file__).parent.parent / "src/carbench/report/coverage.csv"


@dataclass(frozen=True)
class Scenario:
    """A kind of study.

    Attributes:
        accuracy: of the first backbone.
        spreads: standard deviation of the accuracy over training runs, for each backbone.
    """

    groups: int
    seeds: int
    accuracy: float
    spreads: tuple[float, float, float, float]
    folds: int = 1

    @property
    def equal(self) -> bool:
        """Whether the training runs of all backbones vary equally."""
        return len(set(self.spreads)) == 1


@dataclass(frozen=True)
class Study:
    """A simulated study.

    Attributes:
        right: (backbones, seeds, images).
        tested: (seeds, images).
        groups: (images,).
        truth: the true accuracies, (backbones,).
    """

    right: NDArray[np.bool_]
    tested: NDArray[np.bool_]
    groups: NDArray[np.int64]
    truth: NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """The conclusions of a study, and whether they are true.

    Attributes:
        held: for each backbone, whether the interval of its accuracy contains the truth.
        pairs: fraction of the uncorrected intervals of differences that contain the truth.
        together: 1 if all corrected intervals of differences contain the truth, else 0.
        widths: of the accuracies' intervals.
        pair_widths: of the uncorrected differences' intervals.
        power: of the pairs that truly differ by at least 3 points, the fraction found significant.
        paradox: whether a backbone is tied with the best while a better one is not.
    """

    held: list[bool]
    pairs: float
    together: float
    widths: list[float]
    pair_widths: list[float]
    power: float
    paradox: bool

    @property
    def accuracies(self) -> float:
        """Fraction of the accuracies' intervals that contain the truth."""
        return float(np.mean(self.held))


def simulate(scenario: Scenario, rng: np.random.Generator) -> Study:
    """Draw a study. With one seed, the truth is the expected accuracy of that training run."""
    sizes = np.ones(scenario.groups, np.int64)
    twins = rng.random(scenario.groups) < 0.15
    sizes[twins] = rng.integers(2, 6, twins.sum())
    groups = np.repeat(np.arange(scenario.groups), sizes)
    backbones, seeds = len(OFFSETS), scenario.seeds
    accuracies = np.minimum(scenario.accuracy + np.array(OFFSETS), 0.98)
    # The standard deviation of the normal variable that yields this one of the accuracy.
    steepness = np.exp(-(ndtri(accuracies) ** 2) / 2) / np.sqrt(2 * np.pi * WITHIN)
    luck_spread = np.array(scenario.spreads) / steepness
    ability = ndtri(accuracies) * np.sqrt(WITHIN + luck_spread**2)
    luck = rng.normal(size=(backbones, seeds)) * luck_spread[:, None]

    def draw(variance: float, *shape: int) -> NDArray[np.float64]:
        return np.sqrt(variance) * rng.normal(size=shape)

    hardness = draw(SHARED, 1, 1, scenario.groups) + draw(OWN, backbones, 1, scenario.groups)
    chance = draw(CHANCE, backbones, seeds, scenario.groups)
    apart = draw(CHANCE_APART, backbones, seeds, len(groups))
    level = (ability[:, None] + luck)[..., None]
    right = level + (hardness + chance)[..., groups] + apart > 0
    fold_of_group = rng.permutation(scenario.groups) % scenario.folds
    fold_of_seed = np.arange(seeds) % scenario.folds
    tested = fold_of_group[groups] == fold_of_seed[:, None]
    alone = ndtr((ability + luck[:, 0]) / np.sqrt(WITHIN))
    return Study(right, tested, groups, alone if seeds == 1 else accuracies)


def judge(study: Study, prior_dof: float = PRIOR_DOF, draws: int = DRAWS) -> Found:
    """Evaluate a study as stage aggregate does."""
    names = [str(number) for number in range(len(study.truth))]
    tested = np.broadcast_to(study.tested, study.right.shape)
    scores = subset_scores(Groups(study.groups), study.right, tested)
    estimates = estimate_jointly(dict(zip(names, scores, strict=True)), prior_dof)
    intervals = [share_interval(estimate, CONFIDENCE) for estimate in estimates.values()]
    truths = {
        pair: study.truth[int(pair[0])] - study.truth[int(pair[1])]
        for pair in combinations(names, 2)
    }
    single = {
        pair: difference_interval(estimates[pair[0]].minus(estimates[pair[1]]), CONFIDENCE)
        for pair in truths
    }
    compared = {
        (each.backbone, each.other): each
        for each in compare_pairs(estimates, CONFIDENCE, MARGIN, draws=draws)
    }
    telling = [each.significant for pair, each in compared.items() if abs(truths[pair]) > TELLING]
    order = sorted(names, key=lambda name: -estimates[name].value)
    told = [
        next(each.significant for pair, each in compared.items() if set(pair) == {order[0], other})
        for other in order[1:]
    ]
    return Found(
        held=[
            bool(interval.low <= truth <= interval.high)
            for interval, truth in zip(intervals, study.truth, strict=True)
        ],
        pairs=float(
            np.mean(
                [single[pair].low <= truth <= single[pair].high for pair, truth in truths.items()]
            )
        ),
        together=float(
            all(
                compared[pair].difference.low <= truth <= compared[pair].difference.high
                for pair, truth in truths.items()
            )
        ),
        widths=[interval.high - interval.low for interval in intervals],
        pair_widths=[interval.high - interval.low for interval in single.values()],
        power=float(np.mean(telling)) if telling else math.nan,
        paradox=any(not later for first, later in combinations(told, 2) if first),
    )


def coverage(
    scenario: Scenario, studies: int, prior_dof: float = PRIOR_DOF, seed: int = 0
) -> list[Found]:
    """Simulate and evaluate many studies of a scenario."""
    rng = np.random.default_rng([seed, *map(int, os.fsencode(repr(scenario)))])
    return [judge(simulate(scenario, rng), prior_dof) for _ in range(studies)]


def scenarios() -> list[Scenario]:
    """Return realistic combinations of test set size, seeds, accuracy and spread, to tabulate."""
    plain = [
        Scenario(groups, seeds, accuracy, (spread,) * 4)
        for seeds in (1, 2, 3, 5)
        for groups in (60, 200, 800)
        for accuracy in (0.6, 0.8, 0.95)
        for spread in ((0.01,) if seeds == 1 else SPREADS)
    ]
    folds = [
        Scenario(groups, seeds, 0.8, (0.01,) * 4, folds=5)
        for seeds in (5, 10)
        for groups in (200, 800)
    ]
    return plain + folds


def unequal_scenarios() -> list[Scenario]:
    """Return studies in which the variance between training runs depends on the backbone."""
    return [
        Scenario(groups, seeds, accuracy, spreads)
        for seeds in (2, 3, 5)
        for groups in (200, 800)
        for accuracy in (0.8, 0.95)
        for spreads in UNEQUAL
    ]


def losses(
    groups: int, seeds: int, studies: int, margin: float = MARGIN
) -> list[tuple[float, float]]:
    """Return the accuracy that rule `cheapest` truly gives up in many studies, and its prediction.

    The better a backbone truly is, the more it costs; its training runs have a standard deviation
    of 1 point. The first value of each pair is by how much the chosen backbone is truly behind the
    one that was best on the study's images; the second is the predicted probability that this is
    more than the margin.
    """
    params = ChooseParams(
        confidence=CONFIDENCE, deployment_mix="tested", ties="cheapest", cost="macs", margin=margin
    )
    scenario = Scenario(groups, seeds, 0.8, (0.01,) * 4)
    rng = np.random.default_rng([groups, seeds])
    found = []
    for _ in range(studies):
        study = simulate(scenario, rng)
        count = len(study.groups)
        images = pd.DataFrame({"class": ["a"] * count})
        answers = AlignedPredictions(
            images,
            ["a", "b"],
            np.zeros(count, np.int64),
            study.groups,
            {str(number): (~own).astype(np.int64) for number, own in enumerate(study.right)},
        )
        truth = {str(number): value for number, value in enumerate(study.truth)}
        costs = {name: _cost(round(1e6 * value)) for name, value in truth.items()}
        candidates = choose(answers, costs, params, DRAWS)
        (chosen,) = (each for each in candidates if each.chosen)
        lost = truth[candidates[0].backbone] - truth[chosen.backbone]
        found.append((lost, chosen.loses_margin))
    return found


def _cost(macs: int) -> Cost:
    """Return a cost in which everything but the MACs is empty."""
    nothing = Interval(0.0, 0.0, 0.0)
    return Cost("", 0, macs, 0, nothing, nothing, nothing, 0.0, (), "", "")


def table(found: dict[Scenario, list[Found]]) -> str:
    """Return a Markdown table; scenarios that differ only in the spread share a row."""
    lines = [
        "| seeds | folds | groups | accuracy | accuracies | single pairs | all pairs at once "
        "| width | power |",
        "|--:|--:|--:|--:|---|---|---|---|---|",
    ]
    rows: dict[Scenario, list[list[Found]]] = {}
    for each, studies in found.items():
        rows.setdefault(replace(each, spreads=(0.0,) * 4), []).append(studies)
    for each, by_spread in rows.items():
        cells = [
            " / ".join(f"{100 * value:.1f}" for value in values)
            for values in (
                [_mean(studies, "accuracies") for studies in by_spread],
                [_mean(studies, "pairs") for studies in by_spread],
                [_mean(studies, "together") for studies in by_spread],
                [_quantile(studies, "widths", 0.5) for studies in by_spread],
            )
        ]
        cells.append(" / ".join(f"{_mean(studies, 'power'):.2f}" for studies in by_spread))
        lines.append(
            f"| {each.seeds} | {each.folds if each.folds > 1 else ''} | {each.groups} "
            f"| {100 * each.accuracy:.0f} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def summary(name: str, found: dict[Scenario, list[Found]]) -> str:
    """Return a row with the number of scenarios with good coverage, interval widths and power.

    Power is of scenarios with several seeds, because one seed has no variance to moderate; widths
    and paradoxes are of those with two.
    """
    cells = []
    for column in ("accuracies", "pairs", "together"):
        means = [_mean(studies, column) for studies in found.values()]
        good = sum(GOOD[0] <= mean <= GOOD[1] for mean in means)
        cells.append(f"{good} of {len(means)} ({100 * min(means):.1f} to {100 * max(means):.1f})")
    several = [each for key, studies in found.items() if key.seeds > 1 for each in studies]
    few = [each for key, studies in found.items() if key.seeds == 2 for each in studies]
    for column in ("widths", "pair_widths"):
        cells.append(
            f"{100 * _quantile(few, column, 0.5):.1f}, {100 * _quantile(few, column, 0.95):.1f}"
        )
    by_backbone = [np.mean([each.held for each in studies], axis=0) for studies in found.values()]
    cells.insert(1, f"{100 * np.min(by_backbone):.1f}")
    cells.append(f"{_mean(several, 'power'):.2f}")
    cells.append(f"{100 * np.mean([each.paradox for each in few]):.0f}")
    return f"| {name} | " + " | ".join(cells) + " |"


def _mean(studies: Iterable[Found], column: str) -> float:
    return float(np.nanmean([getattr(each, column) for each in studies]))


def _quantile(studies: Iterable[Found], column: str, share: float) -> float:
    return float(np.quantile(np.concatenate([getattr(each, column) for each in studies]), share))


def _work(task: tuple[Scenario, int, float]) -> list[Found]:
    return coverage(*task)


def _lose(task: tuple[int, int, int]) -> list[tuple[float, float]]:
    return losses(*task)


def write_cited(path: Path, equal: dict[Scenario, list[Found]]) -> None:
    """Write the lowest and highest coverage by number of seeds, which the report cites."""
    rows = []
    for seeds in sorted({each.seeds for each in equal}):
        means = [
            _mean(studies, "accuracies")
            for each, studies in equal.items()
            if each.seeds == seeds and each.folds == 1
        ]
        if means:
            lowest, highest = f"{min(means):.3f}", f"{max(means):.3f}"
            rows.append({"seeds": seeds, "lowest": lowest, "highest": highest})
    write_table(path, ("seeds", "lowest", "highest"), rows)


@timed()
def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000, help="studies per scenario")
    parser.add_argument("--write", action="store_true", help=f"write {CITED.name} for the report")
    arguments = parser.parse_args()
    with Pool() as pool:

        def run(chosen: list[Scenario], prior_dof: float) -> dict[Scenario, list[Found]]:
            tasks = [(each, arguments.studies, prior_dof) for each in chosen]
            return dict(zip(chosen, pool.map(_work, tasks, chunksize=1), strict=True))

        equal, unequal = run(scenarios(), PRIOR_DOF), run(unequal_scenarios(), PRIOR_DOF)
        print(table(equal), "", sep="\n")
        print(
            "| spreads, variance between training runs | accuracies "
            "| lowest coverage of one backbone | single pairs | all pairs at once "
            "| width, 2 seeds: median, 95 % | width of a pair: median, 95 % | power | paradox, % |"
        )
        print("|---|---|--:|---|---|---|---|--:|--:|")
        methods = {"own": 0.0, "moderated": PRIOR_DOF, "pooled": math.inf}
        for kind, known in (("equal", equal), ("unequal", unequal)):
            for name, freedom in methods.items():
                found = known if name == "moderated" else run(list(known), freedom)
                print(summary(f"{kind}, {name}", found), flush=True)
        print("", "| val groups | seeds | gave up more than 1 point, % | predicted, % |", sep="\n")
        print("|--:|--:|--:|--:|")
        sizes = [(groups, seeds) for groups in (60, 200, 800) for seeds in (1, 2, 3)]
        tasks = [(groups, seeds, arguments.studies) for groups, seeds in sizes]
        for (groups, seeds), results in zip(
            sizes, pool.map(_lose, tasks, chunksize=1), strict=True
        ):
            true = np.mean([lost > MARGIN + 1e-9 for lost, _ in results])
            predicted = np.mean([probability for _, probability in results])
            print(f"| {groups} | {seeds} | {100 * true:.0f} | {100 * predicted:.0f} |")
    if arguments.write:
        write_cited(CITED, equal)


if __name__ == "__main__":
    main()
