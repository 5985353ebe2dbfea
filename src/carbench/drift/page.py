"""What the tests found, for people and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from carbench.drift.testing import FEWEST, Drift

BINS = 24


def as_json(drift: Drift, version: str) -> dict[str, Any]:
    """Return what programs read: the same as the page, in numbers."""
    return {
        "model": version,
        "alarm": drift.alarm if drift.enough else None,
        "enough": drift.enough,
        "pictures": len(drift.window),
        "reference": len(drift.reference),
        "alpha": drift.alpha,
        "tests": [vars(test) for test in drift.tests],
    }


def render(drift: Drift, version: str) -> str:
    """Return a page that asks for nothing else."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        drift=drift,
        version=version,
        fewest=FEWEST,
        changed=[test.name for test in drift.tests if test.alarm],
        histograms=_histograms(drift) if drift.enough else {},
        shares=_shares(drift) if drift.enough else [],
    )


def _histograms(drift: Drift) -> dict[str, list[tuple[float, float]]]:
    """Return pairs of heights, 0 to 1, of reference and window in each bin, by statistic."""
    columns = {
        name: (before, drift.window.statistics[name])
        for name, before in drift.reference.statistics.items()
    }
    columns["confidence"] = drift.reference.confidence, drift.window.confidence
    found = {}
    for name, pair in columns.items():
        both = np.concatenate(pair)
        edges = np.linspace(both.min(), max(both.max(), both.min() + 1e-9), BINS + 1)
        heights = [np.histogram(each, edges)[0] / len(each) for each in pair]
        highest = max(float(each.max()) for each in heights)
        found[name] = [
            (float(before) / highest, float(after) / highest)
            for before, after in zip(*heights, strict=True)
        ]
    return found


def _shares(drift: Drift) -> list[tuple[str, float, float]]:
    """Return each class with its share of the predictions, before and after."""
    both = (drift.reference.predicted, drift.window.predicted)
    before, after = (np.bincount(each, minlength=len(drift.classes)) / len(each) for each in both)
    return [
        (name, float(before[place]), float(after[place]))
        for place, name in enumerate(drift.classes)
    ]
