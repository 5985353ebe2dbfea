"""What the tests have found, for people (a page, sentences) and for programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from carbench.deploy.drift.testing import FEWEST, Drift, Numbers, Outcome, distance_from_centre
from carbench.report.html.jinja import html_environment, stylesheet
from carbench.report.tables.formatting import percent

HERE = Path(__file__).parent
# The same look as the report.
STYLE = HERE.parents[1] / "report/page.css"
BINS = 24
# Classes that are shown, those first whose share has changed most.
SHOWN_CLASSES = 12


@dataclass(frozen=True)
class Histogram:
    """How a number is spread over reference and window.

    Attributes:
        name: of the number.
        unit: what it is, for a person.
        low, high: the ends of the axis; the few numbers beyond them are in the outermost bins.
        before, after: (BINS,) heights, 1 for the highest bin of both.
        median_before, median_after: of the numbers.
        form: how to write them.
    """

    name: str
    unit: str
    low: float
    high: float
    before: list[float]
    after: list[float]
    median_before: float
    median_after: float
    form: Callable[[float], str]

    def place(self, value: float) -> float:
        """Return where a value is on the axis, 0 to 1."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


@dataclass(frozen=True)
class Share:
    """A class's share of the predictions, in reference and window."""

    name: str
    before: float
    after: float


def as_json(drift: Drift, version: str) -> dict[str, Any]:
    """Return what programs read: the same as the page, in numbers.

    Args:
        drift: what was found.
        version: of the model.
    """
    return {
        "model": version,
        "verdict": verdict(drift),
        "alarm": drift.alarm if drift.enough else None,
        "enough": drift.enough,
        "fewest": FEWEST,
        "images": len(drift.window),
        "reference": len(drift.reference),
        "alpha": drift.alpha,
        "min_effect": drift.min_effect,
        "tests": [asdict(test) for test in drift.tests],
    }


def verdict(drift: Drift) -> str:
    """Return one of four: ``different`` is a difference that is no alarm."""
    if not drift.enough:
        return "not enough images"
    if drift.alarm:
        return "drift"
    return "different" if drift.different else "no drift"


def sentence(drift: Drift) -> str:
    """Return in one sentence whether images have changed."""
    if not drift.enough:
        few = drift.window if len(drift.window) < FEWEST else drift.reference
        where = "new" if few is drift.window else "reference"
        return f"Not enough images to say: {len(few)} {where} ones, and {FEWEST} are needed."
    changed = [test for test in drift.tests if (test.alarm if drift.alarm else test.different)]
    if changed:
        *first, last = (test.name for test in changed)
        names = f"{', '.join(first)} and {last}" if first else last
        verb = "differ" if first else "differs"
        largest = max(test.effect for test in changed)
        by = f"by more than chance, by up to {largest:.2f} on a scale from 0 to 1"
        if drift.alarm:
            return f"Images have changed: {names} {verb} {by}."
        return (
            f"Images are different, but the model makes about the same of them: {names} {verb} "
            f"{by}."
        )
    return "Images have not changed, as far as these tests can tell."


def render(drift: Drift, version: str) -> str:
    """Return a page that asks for nothing else. Class names come from outside: all is escaped.

    Args:
        drift: what was found.
        version: of the model.
    """
    environment = html_environment(HERE)
    environment.filters |= {"percent": percent, "p_value": p_value, "decimals": decimals}
    shares = _shares(drift)
    return environment.get_template("page.html").render(
        css=stylesheet(STYLE),
        drift=drift,
        version=version,
        sentence=sentence(drift),
        fewest=FEWEST,
        in_words=in_words,
        histograms=_histograms(drift) if drift.enough else [],
        shares=shares[:SHOWN_CLASSES],
        largest=max(max(share.before, share.after) for share in shares),
        other_classes=len(shares[SHOWN_CLASSES:]),
    )


def in_words(test: Outcome) -> tuple[str, str]:
    """Return what a person may compare, before and after: medians, or the share that changed most.

    The share is that of the class whose share has changed most.
    """
    if test.family == "classes":
        name = max(test.before, key=lambda name: abs(test.after[name] - test.before[name]))
        return f"{percent(test.before[name])} {name}", f"{percent(test.after[name])} {name}"
    (before,), (after,) = test.before.values(), test.after.values()
    form = percent if test.family == "confidence" else decimals
    return form(before), form(after)


def decimals(number: float) -> str:
    """Return three digits after the point."""
    return f"{number:.3f}"


def p_value(p: float) -> str:
    """Return two significant digits, or that it is small."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _histograms(drift: Drift) -> list[Histogram]:
    reference, window = drift.reference, drift.window
    units = {
        "brightness": "mean luma, 0 to 1",
        "contrast": "standard deviation of the luma",
        "saturation": "how far colours are from grey, 0 to 1",
        "sharpness": "frequency of the detail, in radians per pixel",
    }
    drawn = [
        _histogram(name, units[name], before, window.statistics[name], decimals)
        for name, before in reference.statistics.items()
    ]
    sure = "probability of the predicted class"
    far = "distance from the centre of the reference"
    before, after = (distance_from_centre(reference, each) for each in (reference, window))
    return [
        *drawn,
        _histogram("confidence", sure, reference.confidence, window.confidence, percent),
        _histogram("embedding", far, before, after, decimals),
    ]


def _histogram(
    name: str, unit: str, before: Numbers, after: Numbers, form: Callable[[float], str]
) -> Histogram:
    # A few odd images would press all others into one bin.
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
        form=form,
    )


def _shares(drift: Drift) -> list[Share]:
    """Return the classes, those first whose share has changed most."""
    before, after = (
        np.bincount(each.predicted, minlength=len(drift.classes)) / max(len(each), 1)
        for each in (drift.reference, drift.window)
    )
    rows = zip(drift.classes, before.tolist(), after.tolist(), strict=True)
    return sorted((Share(*row) for row in rows), key=lambda row: -abs(row.after - row.before))
