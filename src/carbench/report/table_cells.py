"""Formats numbers for the page, each with its full value and the table that it is from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from carbench.report.sections.label_errors import LabelErrorRow
from carbench.report.sections.learning_curve import ExtrapolationRow
from carbench.report.sections.selective_prediction import DecisionRow, SetCoverageRow
from carbench.report.sections.variance_parts import VariancePartRow
from carbench.report.tables.result_tables import (
    BackboneRow,
    ChoiceRow,
    ComparisonRow,
    LatencyRow,
    LearningCurveRow,
    MistakeRow,
    RecallRow,
    RobustnessRow,
    ShortlistRow,
    SliceRow,
    TableRow,
)

# The table that a row is from, and the fields by which it is found there.
ROW_SOURCES = {
    BackboneRow: ("summary", ("backbone",)),
    ComparisonRow: ("comparisons", ("backbone", "other")),
    ChoiceRow: ("choice", ("backbone",)),
    LatencyRow: ("measured", ("backbone", "runtime", "threads", "images", "decoding")),
    ShortlistRow: ("shortlist", ("model",)),
    RecallRow: ("recall", ("backbone", "label")),
    RobustnessRow: ("robustness", ("backbone", "corruption")),
    SliceRow: ("slices", ("backbone", "slice", "value")),
    MistakeRow: ("mistakes", ("image",)),
    DecisionRow: ("decisions", ("backbone",)),
    SetCoverageRow: ("sets", ("backbone", "label")),
    LabelErrorRow: ("label_errors", ("image",)),
    VariancePartRow: ("variance_parts", ("backbone", "part")),
    LearningCurveRow: ("learning_curve", ("backbone", "place")),
    ExtrapolationRow: ("extrapolation", ("backbone",)),
}


def cell(row: TableRow, column: str, form: Callable[..., str], *args: Any) -> Markup:
    """Return a number of a table formatted for the page, with its full value and its origin.

    Args:
        row: the table's row.
        column: the row's field.
        form: how to write the number.
        args: further arguments of ``form``.
    """
    table, keys = ROW_SOURCES[type(row)]
    value = getattr(row, column)
    place = "\t".join(_text(getattr(row, key)) for key in keys)
    return Markup(
        '<data value="{}" data-table="{}" data-row="{}" data-column="{}">{}</data>'
    ).format(value, table, place, column, form(value, *args))


def _text(key: object) -> str:
    """Return a field by which a row is found as the table has it."""
    return str(int(key)) if isinstance(key, bool) else str(key)


def percent(value: float, digits: int = 1) -> str:
    """Return "54.1 %" for 0.541."""
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def points(value: float, sign: bool = False) -> str:
    """Return percentage points without their name: "12.9" for 0.129, "+12.9" with the sign."""
    text = f"{100 * value:{'+' if sign else ''}.1f}"
    return text.replace("-", "−")


def count(value: float, noun: str = "") -> str:
    """Return "1,234", or "1 image", "2 images" if a noun is given."""
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
    """Return three significant digits, or three after the point, never an exponent."""
    digits = 3 if 0 < abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def thousandths(value: float) -> str:
    """Return three digits after the point."""
    return f"{value:.3f}"


def join_names(names: list[str]) -> str:
    """Return "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def machine(hardware: dict[str, Any], device: str) -> str:
    """Return the part of a machine that computed: its GPU, or its processor."""
    if device == "cuda" and hardware["gpus"]:
        return str(hardware["gpus"][0])
    return f"{hardware['processor']} ({count(hardware['cores'], 'core')})"


def breakable(name: str) -> Markup:
    """Return a name that may be broken after its underscores."""
    return Markup("_<wbr>").join(name.split("_"))


# What templates may call and filter by, under these names.
FILTERS = (percent, points, count, short, compact, number, thousandths, join_names, breakable)
