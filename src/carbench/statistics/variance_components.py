"""How much of an accuracy is other images, another seed, another split.

A study with several seeds on each of several splits is a balanced nested design, in which the part
of the seeds within a split and that of the splits can be told apart (Searle, Casella and McCulloch,
Variance Components, 1992, section 3.6). What remains of a mean square is freed from the part that
the test images make: the jackknife shows it, also where each split has test images of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2, f

from carbench.statistics.estimates import Score
from carbench.statistics.jackknife import FloatArray, jackknife_variance
from carbench.statistics.scores import ClassScores


@dataclass(frozen=True)
class VarianceComponent:
    """A part of the variance of one training's accuracy.

    Attributes:
        name: images, seed, split, or "seed and split" where one cannot be told from the other.
        variance, low, high: an unbiased estimate, if it is not negative, and its interval; None if
            it was not measured.
        freedom: degrees of freedom of the mean square that it comes from.
        note: why it was not measured, or with what together.
    """

    name: str
    variance: float | None = None
    low: float | None = None
    high: float | None = None
    dof: int = 0
    note: str = ""


@dataclass(frozen=True)
class _MeanSquare:
    """A mean square, and how much of it the test images make."""

    size: float
    noise: float
    dof: int


def variance_table(scores: dict[str, ClassScores], confidence: float) -> pd.DataFrame:
    """Return variance_parts.csv: a row a backbone and part, as standard deviations."""
    rows = []
    for name, score in scores.items():
        for part in variance_components(score.accuracy(), confidence):
            values = (part.variance, part.low, part.high)
            deviation, low, high = (None if value is None else sqrt(value) for value in values)
            rows.append(
                {
                    "backbone": name,
                    "part": part.name,
                    "deviation": deviation,
                    "low": low,
                    "high": high,
                    "degrees_of_freedom": part.dof or None,
                    "note": part.note,
                }
            )
    table = pd.DataFrame(rows)
    return table.astype({"degrees_of_freedom": "Int64"})


def variance_components(score: Score, confidence: float) -> list[VarianceComponent]:
    """Return the parts of the variance of one training's accuracy.

    Args:
        score: of the trainings of one backbone.
        confidence: of each interval.
    """
    kept = score.weights > 0
    values = score.by_training[kept]
    deviations = score.deviations()
    splits = np.zeros(len(values), np.int64) if score.splits is None else score.splits[kept]
    # Folds: what differs between them differs by images alone, as far as one study can tell.
    cells = splits if score.splits is not None else score.strata[kept]
    tail = (1 - confidence) / 2
    parts = [_images(deviations, score.groups, tail)]
    within = _within(values, deviations, score.groups, cells)
    count = len(np.unique(splits))
    if count == 1:
        if within.dof:
            seed = _without_image_part(within, tail, "seed")
        else:
            why = (
                "only one seed"
                if len(values) == 1
                else "no two seeds were tested on the same images"
            )
            seed = VarianceComponent("seed", note=f"not measured ({why})")
        return [*parts, seed, VarianceComponent("split", note="not measured (only one split)")]
    between = _between(values, deviations, score.groups, splits)
    if not within.dof:
        together = _without_image_part(
            between, tail, "seed and split", "not separable with one seed per split"
        )
        return [*parts, together]
    each = len(values) / count
    return [
        *parts,
        _without_image_part(within, tail, "seed"),
        _split_component(between, within, each, tail),
    ]


def _images(deviations: FloatArray, groups: int, tail: float) -> VarianceComponent:
    variance, dof = float(jackknife_variance(deviations, groups).mean()), groups - 1
    low, high = (dof * variance / chi2.ppf([1 - tail, tail], dof)).tolist()
    return VarianceComponent("images", variance, low, high, dof)


def _within(
    values: FloatArray, deviations: FloatArray, groups: int, cells: NDArray[np.int64]
) -> _MeanSquare:
    """Return the mean square of the trainings around the mean of their split, or fold."""
    dof = len(values) - len(np.unique(cells))
    if not dof:
        return _MeanSquare(0.0, 0.0, 0)
    inner = np.zeros((len(values), len(values)))
    for cell in np.unique(cells):
        own = cells == cell
        inner[np.ix_(own, own)] = 1 / own.sum()
    away = np.eye(len(values)) - inner
    noise = float(jackknife_variance(deviations @ away, groups).sum()) / dof
    return _MeanSquare(float(((away @ values) ** 2).sum() / dof), noise, dof)


def _between(
    values: FloatArray, deviations: FloatArray, groups: int, splits: NDArray[np.int64]
) -> _MeanSquare:
    """Return the mean square of the splits' means, in units of one training."""
    names = np.unique(splits)
    shares = (splits == names[:, None]).astype(np.float64)
    each = shares.sum(axis=1).mean()
    shares /= shares.sum(axis=1, keepdims=True)
    means, changes = shares @ values, deviations @ shares.T
    dof = len(names) - 1
    away = changes - changes.mean(axis=1, keepdims=True)
    noise = float(each * jackknife_variance(away, groups).sum()) / dof
    return _MeanSquare(float(each * means.var(ddof=1)), noise, dof)


def _without_image_part(
    square: _MeanSquare, tail: float, name: str, note: str = ""
) -> VarianceComponent:
    """Return a mean square without the images' part; its chi-squared interval moves along."""
    # What is expected of a mean square is at least the images' part, however small it came out.
    sizes = np.array([square.size, max(square.size, square.noise)])
    low, high = square.dof * sizes / chi2.ppf([1 - tail, tail], square.dof)
    return VarianceComponent(
        name,
        max(square.size - square.noise, 0.0),
        max(float(low) - square.noise, 0.0),
        max(float(high) - square.noise, 0.0),
        square.dof,
        note,
    )


def _split_component(
    between: _MeanSquare, within: _MeanSquare, each: float, tail: float
) -> VarianceComponent:
    """Return the part of the splits: what their means vary more than their seeds make them.

    The interval is that of Ting, Burdick, Graybill, Jeyaratnam and Lu (Journal of Statistical
    Computation and Simulation 1990) for a difference of mean squares, moved by the difference of
    the images' parts.
    """
    first, second = between.size, within.size
    most = max(first, between.noise)  # as in _free
    n1, n2 = between.dof, within.dof
    shift = between.noise - within.noise
    g1, h1 = _reach(n1, tail)
    g2, h2 = _reach(n2, tail)
    upper, lower = f.ppf(1 - tail, n1, n2), f.ppf(tail, n1, n2)
    g12 = ((upper - 1) ** 2 - g1**2 * upper**2 - h2**2) / upper
    h12 = ((1 - lower) ** 2 - h1**2 * lower**2 - g2**2) / lower
    down = g1**2 * first**2 + h2**2 * second**2 + g12 * first * second
    up = h1**2 * most**2 + g2**2 * second**2 + h12 * most * second
    value = first - second - shift
    return VarianceComponent(
        "split",
        max(value, 0.0) / each,
        max(value - sqrt(max(down, 0.0)), 0.0) / each,
        max(value - first + most + sqrt(max(up, 0.0)), 0.0) / each,
        n1,
    )


def _reach(dof: int, tail: float) -> tuple[float, float]:
    """Return how far, as parts of a mean square, its expectation may lie below and above it."""
    high, low = chi2.ppf([1 - tail, tail], dof) / dof
    return float(1 - 1 / high), float(1 / low - 1)
