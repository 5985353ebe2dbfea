"""Compare methods of finding a confidence threshold: answers given, and targets violated.

`python benchmarks/thresholds.py` prints the table of docs/decisions.md as Markdown; `--samples`
sets the number of samples per row (default 500). Simulated predictions are correct as often as
their confidence says, except for a fraction of wrong labels. ``fit_threshold`` of
:mod:`carbench.evaluation.selective_prediction` is compared with:

- fixed sequence (Angelopoulos et al., "Learn then test"): from the most confident images on, each
  test at the full level; the first failure ends the search;
- Bonferroni: ten thresholds, which answer 10, 20, ... 100 %, each tested at a tenth of the level;
- SGR (Geifman and El-Yaniv, NeurIPS 2017): binary search, each step at an equal part of the level.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from math import ceil, log, log2

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtri
from simulating import timed

from carbench.evaluation.selective_prediction import fit_threshold

LEVEL = 0.95
SPREAD = 2.2  # standard deviation of the confidence's logit
Numbers = NDArray[np.float64]
# From the confidences, the correctness (both in descending order of confidence) and the target
# error to the number of images that are answered.
Way = Callable[[Numbers, NDArray[np.bool_], float], int]


def ours(sure: Numbers, right: NDArray[np.bool_], wanted: float) -> int:
    """Return how many images carbench answers."""
    return fit_threshold(sure, right, wanted, LEVEL).answered


def fixed_sequence(sure: Numbers, right: NDArray[np.bool_], wanted: float) -> int:
    """Return how many images are answered at the last threshold before a test fails."""
    fewest = ceil(log(1 - LEVEL) / log(1 - wanted))
    counts = np.arange(fewest, len(sure) + 1)
    failed = bdtr(np.cumsum(~right)[fewest - 1 :], counts, wanted) > 1 - LEVEL
    passed = int(failed.argmax()) if failed.any() else len(failed)
    return fewest - 1 + passed if passed else 0


def bonferroni(sure: Numbers, right: NDArray[np.bool_], wanted: float) -> int:
    """Return how many images are answered at the last of ten thresholds that passes."""
    counts = np.ceil(np.arange(1, 11) / 10 * len(sure) - 1e-9).astype(np.int64)
    passed = bdtr(np.cumsum(~right)[counts - 1], counts, wanted) <= (1 - LEVEL) / 10
    return int(counts[passed].max(initial=0))


def sgr(sure: Numbers, right: NDArray[np.bool_], wanted: float) -> int:
    """Return how many images a binary search answers, under a bound of the error."""
    wrong, steps = np.cumsum(~right), ceil(log2(len(sure)))
    low, high, found = 1, len(sure), 0
    for _ in range(steps):
        middle = (low + high + 1) // 2
        if bdtri(float(wrong[middle - 1]), middle, (1 - LEVEL) / steps) <= wanted:
            low = found = middle
        else:
            high = middle
    return found


WAYS: dict[str, Way] = {
    "all at once": ours,
    "fixed sequence": fixed_sequence,
    "Bonferroni": bonferroni,
    "SGR": sgr,
}


def draw(
    accuracy: float, mislabelled: float, count: int, rng: np.random.Generator
) -> tuple[Numbers, NDArray[np.bool_]]:
    """Return confidences in descending order, and the true probabilities of being correct."""
    trial = SPREAD * np.random.default_rng(0).normal(size=100_000)
    low, high = -10.0, 15.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if (1 / (1 + np.exp(-middle - trial))).mean() < accuracy
            else (low, middle)
        )
    sure = np.sort(1 / (1 + np.exp(-low - SPREAD * rng.normal(size=count))))[::-1]
    return sure, sure * (1 - mislabelled)


@timed()
def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=500, help="samples per row")
    arguments = parser.parse_args()
    heads = "".join(f" {name} |" for name in ("could be", *WAYS))
    print(f"| images | accuracy, % | target, % | mislabelled, % |{heads}")
    print("|--:" * (5 + len(WAYS)) + "|")
    for count in (216, 500, 1000):
        for accuracy, wanted in ((0.95, 0.05), (0.9, 0.05), (0.8, 0.1)):
            for mislabelled in (0.0, 0.01):
                rng = np.random.default_rng(count)
                surest, chances = draw(accuracy, mislabelled, 1_000_000, rng)
                error = np.cumsum(1 - chances) / np.arange(1, len(chances) + 1)
                possible = float((error <= wanted).mean())
                answered: dict[str, list[float]] = {name: [] for name in WAYS}
                broken = dict.fromkeys(WAYS, 0)
                for _ in range(arguments.samples):
                    sure, chance = draw(accuracy, mislabelled, count, rng)
                    right = rng.random(count) < chance
                    for name, way in WAYS.items():
                        number = way(sure, right, wanted)
                        answered[name].append(number / count)
                        if number:
                            below = sure[number] if number < count else 0.0
                            share = np.searchsorted(-surest, -below)
                            broken[name] += bool(error[share - 1] > wanted)
                cells = []
                for name in WAYS:
                    missed = 100 * broken[name] / arguments.samples
                    cells.append(f"{100 * np.mean(answered[name]):.0f} ({missed:.1f})")
                print(
                    f"| {count} | {100 * accuracy:.0f} | {100 * wanted:.0f} | "
                    f"{100 * mislabelled:.0f} | {100 * possible:.0f} | {' | '.join(cells)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
