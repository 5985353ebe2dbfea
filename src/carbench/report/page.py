"""Fills the page's template. File and class names come from outside: everything is escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from markupsafe import Markup

from carbench.figures.summary import (
    Backbone,
    Choice,
    Comparison,
    Mistake,
    Recall,
    Robustness,
    Row,
    Screened,
    Slice,
)
from carbench.pages.templates import html_environment, stylesheet
from carbench.params.report import ReportParams
from carbench.report.evidence import Evidence
from carbench.report.pictures import (
    data_uri,
    explanation,
    inline_figure,
    pick_pairs,
    sheet,
    thumbnail,
)

HERE = Path(__file__).parent

# What each figure shows, for those who cannot see it; all its numbers are in the tables.
FIGURES = {
    "accuracy": "Accuracy of each backbone on the clean test pictures, with its interval",
    "differences": "Differences in accuracy between all pairs of backbones",
    "pareto": "Accuracy of each backbone against its cost, with the line of the best trade-offs",
    "curves": "Learning curves of each backbone",
    "recall": "Recall of each class by each backbone, with its interval",
    "confusion": "Confusion matrix of each backbone: true classes against predicted ones",
    "reliability": "Accuracy of each backbone against its confidence, before and after temperature",
    "robustness": "Accuracy of each backbone on corrupted pictures, with its interval",
    "leak": "Clean, published and leaked accuracy of each backbone, and its leak gap",
    "screening": "Accuracy of a linear probe on each screened candidate against its cost",
    "classes": "Pictures and duplicates of each class, and its leak",
}
# The table that a row is from, and the fields by which it is found there.
SOURCES = {
    Backbone: ("summary", ("backbone",)),
    Comparison: ("comparisons", ("backbone", "other")),
    Choice: ("choice", ("backbone",)),
    Screened: ("shortlist", ("model",)),
    Recall: ("recall", ("backbone", "label")),
    Robustness: ("robustness", ("backbone", "corruption")),
    Slice: ("slices", ("backbone", "slice", "value")),
    Mistake: ("mistakes", ("image",)),
}


def render(
    evidence: Evidence, images: Path, contact_sheet: Path, figures: Path, params: ReportParams
) -> str:
    """Return the whole page.

    Args:
        evidence: what the page says.
        images: the folder of the pictures.
        contact_sheet: the audit's JPEG of duplicate groups.
        figures: the folder of the figures.
        params: title and counts.
    """
    environment = html_environment(HERE)
    forms = (percent, points, count, short, compact, number, thousandths, listed)
    environment.filters |= {form.__name__: form for form in forms}
    environment.globals |= {form.__name__: form for form in (*forms, cell, csv, machine)}
    script = (HERE / "page.js").read_text(encoding="utf-8")
    pictures, maps = evidence.explanations
    return environment.get_template("page.html").render(
        title=params.title,
        css=stylesheet(HERE / "page.css"),
        script=Markup(script),
        script_hash=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
        evidence=evidence,
        audit=evidence.audit,
        chosen=evidence.chosen,
        rivals=evidence.rivals,
        pairs=pick_pairs(evidence.audit["examples"], evidence.published, params.duplicate_pairs),
        sheet=sheet(contact_sheet),
        mistakes=evidence.mistakes[: params.mistakes],
        figures={
            name: inline_figure(figures / f"{name}.svg", alt) for name, alt in FIGURES.items()
        },
        thumbnail=lambda image: thumbnail(images / image),
        explanation=lambda row: explanation(pictures[row], maps[row]),
    )


def cell(row: Row, column: str, form: Callable[..., str], *args: Any) -> Markup:
    """Return a number of a table as a person reads it, with its full value and where it is from.

    Args:
        row: the table's row.
        column: the row's field.
        form: how to write the number.
        args: further arguments of ``form``.
    """
    table, keys = SOURCES[type(row)]
    value = getattr(row, column)
    place = "\t".join(getattr(row, key) for key in keys)
    return Markup(
        '<data value="{}" data-table="{}" data-row="{}" data-column="{}">{}</data>'
    ).format(value, table, place, column, form(value, *args))


def csv(content: bytes) -> str:
    """Return a file as a data URI."""
    return data_uri(content, "text/csv;charset=utf-8")


def percent(value: float, digits: int = 1) -> str:
    """Return "54.1 %" for 0.541."""
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def points(value: float, sign: bool = False) -> str:
    """Return percentage points without their name: "12.9" for 0.129, "+12.9" with the sign."""
    text = f"{100 * value:{'+' if sign else ''}.1f}"
    return text.replace("-", "−")


def count(value: float, noun: str = "") -> str:
    """Return "1,234", or "1 picture", "2 pictures" if a noun is given."""
    text = f"{value:,.0f}"
    return f"{text}\N{NO-BREAK SPACE}{noun}{'' if value == 1 else 's'}" if noun else text


def short(value: float) -> str:
    """Return three significant digits and a unit: "373 thousand", "9.69 million"."""
    for size, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if value >= size:
            return f"{number(value / size)}\N{NO-BREAK SPACE}{name}"
    return number(value)


def compact(value: float) -> str:
    """Return three significant digits and a letter, for tables: "373 k", "9.69 M"."""
    for word, letter in (("thousand", "k"), ("million", "M"), ("billion", "G")):
        if short(value).endswith(word):
            return short(value).replace(word, letter)
    return short(value)


def number(value: float) -> str:
    """Return three significant digits, never an exponent."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def thousandths(value: float) -> str:
    """Return three digits after the point."""
    return f"{value:.3f}"


def listed(names: list[str]) -> str:
    """Return "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def machine(hardware: dict[str, Any], device: str) -> str:
    """Return the part of a machine that computed: its GPU, or its processor."""
    if device == "cuda" and hardware["gpus"]:
        return str(hardware["gpus"][0])
    return f"{hardware['processor']} ({count(hardware['cores'], 'core')})"
