"""Variance components of an accuracy: test images, seeds and splits.

A study with several seeds on each of several splits is a balanced nested design, in which the
components of seeds within splits and of splits are identifiable (Searle, Casella and McCulloch,
Variance Components, 1992, section 3.6). The contribution of the test images, estimated by the
jackknife, is subtracted from the mean squares, also if each split has its own test images.
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
    """A component of the variance of a single training run's accuracy.

    Attributes:
        name: images, seed, split, or "seed and split" if they are not separable.
        variance, low, high: unbiased estimate, clipped at 0, and its interval; None if it was not
            measured.
        dof: degrees of freedom of its mean square.
        note: why it was not measured or not separated.
    """

    name: str
    variance: float | None = None
    low: float | None = None
    high: float | None = None
    dof: int = 0
    note: str = ""


@dataclass(frozen=True)
class _MeanSquare:
    """A mean square, and the contribution of the test images to it."""

    size: float
    noise: float
    dof: int


def variance_table(scores: dict[str, ClassScores], confidence: float) -> pd.DataFrame:
    """Return variance_parts.csv: standard deviations, one row per backbone and component."""
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
    """Return the variance components of a single training run's accuracy.

    Args:
        score: accuracy of the training runs of one backbone.
        confidence: confidence level of each interval.
    """
    kept = score.weights > 0
    values = score.by_training[kept]
    deviations = score.deviations()
    splits = np.zeros(len(values), np.int64) if score.splits is None else score.splits[kept]
    # Folds: differences between them count as differences of their test images.
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
    """Return the mean square of the training runs within their split or fold."""
    dof = len(values) - len(np.unique(cells))
    if not dof:
        return _MeanSquare(0.0, 0.0, 0)
    inner = np.zeros((len(values), len(values)))
    for cell in np.unique(cells):
        own = cells == cell
        inner[np.ix_(own, own)] = 1 / own.sum()
    centring = np.eye(len(values)) - inner
    noise = float(jackknife_variance(deviations @ centring, groups).sum()) / dof
    return _MeanSquare(float(((centring @ values) ** 2).sum() / dof), noise, dof)


def _between(
    values: FloatArray, deviations: FloatArray, groups: int, splits: NDArray[np.int64]
) -> _MeanSquare:
    """Return the mean square between splits, in units of one training run."""
    names = np.unique(splits)
    shares = (splits == names[:, None]).astype(np.float64)
    each = shares.sum(axis=1).mean()
    shares /= shares.sum(axis=1, keepdims=True)
    means, changes = shares @ values, deviations @ shares.T
    dof = len(names) - 1
    centring = changes - changes.mean(axis=1, keepdims=True)
    noise = float(each * jackknife_variance(centring, groups).sum()) / dof
    return _MeanSquare(float(each * means.var(ddof=1)), noise, dof)


def _without_image_part(
    square: _MeanSquare, tail: float, name: str, note: str = ""
) -> VarianceComponent:
    """Return a mean square minus the image contribution, with its shifted chi-squared interval."""
    # The expectation of a mean square is at least the image contribution.
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
    """Return the split component: the variance between splits beyond that of their seeds.

    The interval is that of Ting, Burdick, Graybill, Jeyaratnam and Lu (Journal of Statistical
    Computation and Simulation 1990) for a difference of mean squares, shifted by the difference of
    the image contributions.
    """
    first, second = between.size, within.size
    upper_first = max(first, between.noise)  # as in _without_image_part
    n1, n2 = between.dof, within.dof
    shift = between.noise - within.noise
    g1, h1 = _relative_bounds(n1, tail)
    g2, h2 = _relative_bounds(n2, tail)
    upper, lower = f.ppf(1 - tail, n1, n2), f.ppf(tail, n1, n2)
    g12 = ((upper - 1) ** 2 - g1**2 * upper**2 - h2**2) / upper
    h12 = ((1 - lower) ** 2 - h1**2 * lower**2 - g2**2) / lower
    down = g1**2 * first**2 + h2**2 * second**2 + g12 * first * second
    up = h1**2 * upper_first**2 + g2**2 * second**2 + h12 * upper_first * second
    value = first - second - shift
    return VarianceComponent(
        "split",
        max(value, 0.0) / each,
        max(value - sqrt(max(down, 0.0)), 0.0) / each,
        max(value - first + upper_first + sqrt(max(up, 0.0)), 0.0) / each,
        n1,
    )


def _relative_bounds(dof: int, tail: float) -> tuple[float, float]:
    """Return the relative distances of the interval bounds below and above a mean square."""
    high, low = chi2.ppf([1 - tail, tail], dof) / dof
    return float(1 - 1 / high), float(1 / low - 1)
