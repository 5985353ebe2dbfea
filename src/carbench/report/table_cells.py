"""Numbers in HTML, each with its full value and the table cell it was read from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from carbench.report.sections.label_errors import LabelErrorRow
from carbench.report.sections.learning_curve import ExtrapolationRow
from carbench.report.sections.selective_prediction import DecisionRow, SetCoverageRow
from carbench.report.sections.variance_parts import VariancePartRow
from carbench.report.tables.formatting import (
    compact,
    count,
    join_names,
    number,
    percent,
    points,
    short,
    thousandths,
)
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

# The table of each kind of row, and the fields that identify a row in it.
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
    """Return a formatted number with its full value and its table, row and column.

    Args:
        row: row of the table.
        column: field of the row.
        form: formats the number.
        args: further arguments of ``form``.
    """
    table, keys = ROW_SOURCES[type(row)]
    value = getattr(row, column)
    place = "\t".join(_text(getattr(row, key)) for key in keys)
    return Markup(
        '<data value="{}" data-table="{}" data-row="{}" data-column="{}">{}</data>'
    ).format(value, table, place, column, form(value, *args))


def _text(key: object) -> str:
    """Return an identifying field as the table writes it."""
    return str(int(key)) if isinstance(key, bool) else str(key)


def machine(hardware: dict[str, Any], device: str) -> str:
    """Return the GPU or the processor that a training run used."""
    if device == "cuda" and hardware["gpus"]:
        return str(hardware["gpus"][0])
    return f"{hardware['processor']} ({count(hardware['cores'], 'core')})"


def breakable(name: str) -> Markup:
    """Return a name with line-break opportunities after its underscores."""
    return Markup("_<wbr>").join(name.split("_"))


# Available in templates as filters and functions, under these names.
FILTERS = (percent, points, count, short, compact, number, thousandths, join_names, breakable)
