"""risk_coverage: error rate if only the most confident predictions count as answers."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carbench.params.plot import RiskCoverageParams
from carbench.report.plotting.colours import INK, MUTED, RULE
from carbench.report.plotting.layout import wrap_text
from carbench.report.plotting.style import Style, percent_axis, shorten
from carbench.report.tables.formatting import percent
from carbench.report.tables.result_tables import OptionalNumber, TableRow, read_rows

# Points of lower coverage have so few images that a single error makes a large step.
LEAST_SHARE = 0.1


class RiskCoverageRow(TableRow):
    """A row of risk_coverage.csv; ``fitted`` marks the result of the thresholds from val."""

    backbone: str
    coverage: float
    threshold: float
    error: float
    low: float
    high: float
    max_error: OptionalNumber
    fitted: bool


def draw(table: Path, style: Style, params: RiskCoverageParams) -> Figure:
    """Draw the figure from risk_coverage.csv, which lists the chosen backbone first."""
    points = read_rows(table, RiskCoverageRow)
    curves: dict[str, list[RiskCoverageRow]] = {}
    for point in points:
        if not point.fitted and point.coverage >= LEAST_SHARE:
            curves.setdefault(point.backbone, []).append(point)
    chosen, *others = curves
    figure = Figure(figsize=(style.width, (1.0 if style.narrow else 0.52) * style.width))
    axes = figure.subplots()
    wanted = points[0].max_error
    # Scaled to the chosen backbone, whose curve much worse ones would flatten.
    top = 1.4 * max([each.high for each in curves[chosen]] + ([wanted] if wanted else []))
    shown = [name for name in others if min(_line(curves[name])[1]) < top]
    for name in shown if params.others else ():
        shares, errors = _line(curves[name])
        label = "other backbones" if len(others) > 1 else shorten(name, 24)
        axes.plot(shares, errors, color=RULE, linewidth=1.4, label=label)
    shares, errors = _line(curves[chosen])
    lows, highs = ([getattr(each, end) for each in curves[chosen]] for end in ("low", "high"))
    axes.fill_between(shares, lows, highs, color=style.focus, alpha=0.18, linewidth=0)
    label = f"{shorten(chosen, 24)}, with interval"
    axes.plot(shares, errors, color=style.focus, linewidth=2, label=label)
    if wanted is not None:
        axes.axhline(wanted, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(
            f"target: at most {100 * wanted:g} %",
            (0, wanted),
            (4, 3),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            color=MUTED,
            fontsize=style.font_size * 0.9,
        )
    for point in points:
        if point.fitted and point.backbone == chosen:
            _fitted(axes, point, style)
    _axes(axes, top, style)
    columns = 1 if style.narrow else 2  # three side by side do not fit
    figure.legend(loc="outside upper left", ncols=columns, borderaxespad=0.2, **_once(axes))
    return figure


def _line(points: list[RiskCoverageRow]) -> tuple[list[float], list[float]]:
    return [each.coverage for each in points], [each.error for each in points]


def _fitted(axes: Axes, point: RiskCoverageRow, style: Style) -> None:
    """Mark the result of the thresholds from val on the test set."""
    axes.plot([point.coverage] * 2, [point.low, point.high], color=INK, linewidth=1.6)
    gap = "\n" if style.narrow else " "
    label = (
        f"threshold from validation:{gap}{percent(point.coverage, 0, ' ')} answered, "
        f"{percent(point.error, space=' ')} of them wrong"
    )
    axes.plot(point.coverage, point.error, "o", color=INK, markersize=7, label=label)


def _axes(axes: Axes, top: float, style: Style) -> None:
    axes.set(xlim=(LEAST_SHARE - 0.01, 1.01), ylim=(0, min(top, 1)))
    axes.grid()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.xaxis.set_major_formatter(percent_axis())
    axes.yaxis.set_major_formatter(percent_axis())
    axes.set_xlabel(wrap_text("clean test images answered, most confident first", style))
    axes.set_ylabel("error rate among these")


def _once(axes: Axes) -> dict[str, list[object]]:
    """Return the legend entries without repetitions, the chosen backbone first."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    order = sorted(once, key=lambda label: label == "other backbones")
    return {"handles": [once[label] for label in order], "labels": order}
