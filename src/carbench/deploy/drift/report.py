"""Drift report: HTML page, text and JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from carbench.deploy.drift.two_sample_tests import (
    MIN_IMAGES,
    DriftResult,
    Floats,
    TwoSampleResult,
    distance_from_centre,
)
from carbench.report.html.jinja import html_environment, stylesheet
from carbench.report.tables.formatting import percent

HERE = Path(__file__).parent
# The style sheet of the study report.
STYLE = HERE.parents[1] / "report/page.css"
BINS = 24
# Number of classes shown, those with the largest change of their share.
MAX_CLASSES_SHOWN = 12


@dataclass(frozen=True)
class Histogram:
    """Distribution of a quantity in reference and window.

    Attributes:
        name: name of the quantity.
        unit: description of the quantity.
        low, high: limits of the axis; values beyond them are in the outermost bins.
        before, after: (BINS,) heights; the highest bin of both has height 1.
        median_before, median_after: medians.
        format_value: formats a value.
    """

    name: str
    unit: str
    low: float
    high: float
    before: list[float]
    after: list[float]
    median_before: float
    median_after: float
    format_value: Callable[[float], str]

    def position(self, value: float) -> float:
        """Return the position of a value on the axis, 0 to 1."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


@dataclass(frozen=True)
class ClassShare:
    """Share of a class in the predictions, in reference and window."""

    name: str
    before: float
    after: float


def drift_json(drift: DriftResult, version: str) -> dict[str, Any]:
    """Return the result as JSON.

    Args:
        drift: the result.
        version: version of the model.
    """
    return {
        "model": version,
        "verdict": drift_verdict(drift),
        "alarm": drift.alarm if drift.has_enough_images else None,
        "enough": drift.has_enough_images,
        "fewest": MIN_IMAGES,
        "images": len(drift.window),
        "reference": len(drift.reference),
        "alpha": drift.alpha,
        "min_effect": drift.min_effect,
        "tests": [asdict(test) for test in drift.tests],
    }


def drift_verdict(drift: DriftResult) -> str:
    """Return the verdict; ``different`` is a significant difference without an alarm."""
    if not drift.has_enough_images:
        return "not enough images"
    if drift.alarm:
        return "drift"
    return "different" if drift.different else "no drift"


def headline(drift: DriftResult) -> str:
    """Return the result in a short sentence."""
    return {
        "not enough images": "There are too few images to detect drift.",
        "drift": "The images have changed, and the model responds to them differently.",
        "different": "The images have changed, but the model responds to them much as before.",
        "no drift": "The images have not changed noticeably.",
    }[drift_verdict(drift)]


def details(drift: DriftResult) -> str:
    """Return a sentence with the numbers that led to the result."""
    if not drift.has_enough_images:
        return (
            f"{len(drift.window)} new images and {len(drift.reference)} reference images; at least "
            f"{MIN_IMAGES} of each are needed."
        )
    changed = [test for test in drift.tests if (test.alarm if drift.alarm else test.different)]
    if not changed:
        return f"None of {len(drift.tests)} tests found a significant difference."
    *others, last = (test.name for test in changed)
    names = f"{', '.join(others)} and {last}" if others else last
    largest = max(test.effect for test in changed)
    return (
        f"Significant difference in {names}, with an effect size of up to {largest:.2f} "
        "on a scale from 0 to 1."
    )


def render_report(drift: DriftResult, version: str) -> str:
    """Return the report as a self-contained HTML page; all values are escaped.

    Args:
        drift: the result.
        version: version of the model.
    """
    environment = html_environment(HERE)
    environment.filters |= {
        "percent": percent,
        "p_value": format_p_value,
        "decimals": format_decimal,
    }
    shares = _class_shares(drift)
    return environment.get_template("report.html").render(
        css=stylesheet(STYLE),
        drift=drift,
        version=version,
        headline=headline(drift),
        details=details(drift),
        min_images=MIN_IMAGES,
        typical_values=typical_values,
        histograms=_histograms(drift) if drift.has_enough_images else [],
        shares=shares[:MAX_CLASSES_SHOWN],
        largest=max(max(share.before, share.after) for share in shares),
        other_classes=len(shares[MAX_CLASSES_SHOWN:]),
    )


def typical_values(test: TwoSampleResult) -> tuple[str, str]:
    """Return formatted values of reference and window: medians, or the share of a class.

    The class is the one whose share has changed most.
    """
    if test.family == "classes":
        name = max(test.before, key=lambda name: abs(test.after[name] - test.before[name]))
        return (
            f"{percent(test.before[name])} {name}",
            f"{percent(test.after[name])} {name}",
        )
    (before,), (after,) = test.before.values(), test.after.values()
    format_value = percent if test.family == "confidence" else format_decimal
    return format_value(before), format_value(after)


def format_decimal(number: float) -> str:
    """Format a number with three decimals."""
    return f"{number:.3f}"


def format_p_value(p: float) -> str:
    """Format a p-value with two significant digits."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _histograms(drift: DriftResult) -> list[Histogram]:
    reference, window = drift.reference, drift.window
    units = {
        "brightness": "mean luma, 0 to 1",
        "contrast": "standard deviation of the luma",
        "saturation": "mean distance of colours from grey, 0 to 1",
        "sharpness": "frequency of details, in radians per pixel",
    }
    drawn = [
        _histogram(name, units[name], before, window.statistics[name], format_decimal)
        for name, before in reference.statistics.items()
    ]
    confidence_unit = "probability of the predicted class"
    embedding_unit = "distance from the centre of the reference"
    before, after = (distance_from_centre(reference, each) for each in (reference, window))
    return [
        *drawn,
        _histogram("confidence", confidence_unit, reference.confidence, window.confidence, percent),
        _histogram("embedding", embedding_unit, before, after, format_decimal),
    ]


def _histogram(
    name: str, unit: str, before: Floats, after: Floats, format_value: Callable[[float], str]
) -> Histogram:
    # Quantiles, because a few outliers would squeeze all other images into one bin.
    low, high = np.quantile(np.concatenate([before, after]), [0.005, 0.995])
    edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
    counts = [
        np.histogram(np.clip(each, edges[0], edges[-1]), edges)[0] / len(each)
        for each in (before, after)
    ]
    highest = max(each.max() for each in counts)
    heights = [(each / highest).tolist() for each in counts]
    return Histogram(
        name=name,
        unit=unit,
        low=float(edges[0]),
        high=float(edges[-1]),
        before=heights[0],
        after=heights[1],
        median_before=float(np.median(before)),
        median_after=float(np.median(after)),
        format_value=format_value,
    )


def _class_shares(drift: DriftResult) -> list[ClassShare]:
    """Return the shares of all classes, those with the largest change first."""
    before, after = (
        np.bincount(each.predicted, minlength=len(drift.classes)) / max(len(each), 1)
        for each in (drift.reference, drift.window)
    )
    rows = zip(drift.classes, before.tolist(), after.tolist(), strict=True)
    return sorted((ClassShare(*row) for row in rows), key=lambda row: -abs(row.after - row.before))
