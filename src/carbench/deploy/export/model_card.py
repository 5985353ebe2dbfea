"""The model card: evaluation, usage, limitations and provenance of the exported model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from carbench.data.split.table import SPLITS, SplitRows

# Characters of a class name that Markdown would interpret.
MARKUP = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]<>|#"})


def render_model_card(
    metadata: dict[str, Any], metrics: dict[str, Any], summary: dict[str, str], rows: SplitRows
) -> str:
    """Return the model card as Markdown with YAML front matter for model hubs.

    Args:
        metadata: the content of model.json.
        metrics: metrics of this training run from stage evaluate.
        summary: row of summary.csv for the backbone.
        rows: the images of the study.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value.translate(MARKUP) if isinstance(value, _ClassName) else value,
        autoescape=False,
    )
    environment.globals |= {"percent": percent, "points": points, "interval": interval}
    clean = rows.select(np.flatnonzero(~rows.leaked))
    images = np.zeros((len(metadata["classes"]), len(SPLITS)), int)
    np.add.at(images, (clean.labels, clean.splits), 1)
    counts = {
        _ClassName(name): dict(zip(SPLITS, own, strict=True))
        for name, own in zip(metadata["classes"], images.tolist(), strict=True)
    }
    return environment.get_template("model_card.md").render(
        metadata=metadata | {"classes": list(counts)},
        metrics=metrics,
        summary=summary,
        counts=counts,
        trained=len(rows.indices_of("train")),
    )


class _ClassName(str):
    """A class name, which is user input and has to be escaped."""


def percent(share: Any) -> str:
    """Format a fraction (number, text or None) as a percentage."""
    return "none" if share is None else f"{100 * float(share):.1f} %"


def points(difference: float) -> str:
    """Format a difference of fractions in percentage points, with sign."""
    return f"{100 * difference:+.1f} points"


def interval(estimate: Mapping[str, float]) -> str:
    """Format a value with its interval, in percent."""
    return (
        f"{percent(estimate['value'])} ({percent(estimate['low'])} to {percent(estimate['high'])})"
    )
