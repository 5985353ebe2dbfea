"""The model card: evaluation, usage, limitations and provenance of the exported model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from carbench.data.split.table import SplitRow

# What Markdown would read as more than the letters of a class name.
MARKUP = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]<>|#"})


def render_model_card(
    metadata: dict[str, Any], metrics: dict[str, Any], summary: dict[str, str], rows: list[SplitRow]
) -> str:
    """Return the card as Markdown, with what model hubs read before it.

    Args:
        about: the content of model.json.
        metrics: what stage evaluate wrote of this training.
        summary: the backbone's row of summary.csv.
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
    images = Counter((row.label, row.split) for row in rows if not row.leaked)
    counts = {
        _ClassName(name): {part: images[name, part] for part in ("train", "val", "test")}
        for name in metadata["classes"]
    }
    return environment.get_template("model_card.md").render(
        metadata=metadata | {"classes": list(counts)},
        metrics=metrics,
        summary=summary,
        counts=counts,
        trained=sum(row.split == "train" for row in rows),
    )


class _ClassName(str):
    """A class name, which comes from outside."""


def percent(share: Any) -> str:
    """Return a fraction (number or text; None where there is none) in percent."""
    return "none" if share is None else f"{100 * float(share):.1f} %"


def points(difference: float) -> str:
    """Return a difference of fractions in percentage points, with its sign."""
    return f"{100 * difference:+.1f} points"


def interval(found: Mapping[str, float]) -> str:
    """Return a value with its interval, in percent."""
    return f"{percent(found['value'])} ({percent(found['low'])} to {percent(found['high'])})"
