"""mistakes: the most confident errors of the chosen backbone, with attribution maps."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from carbench.params.plot import MistakesParams
from carbench.report.plotting.attribution_overlay import (
    Pixels,
    overlay_attribution,
    read_explanations,
)
from carbench.report.plotting.colours import INK, MUTED
from carbench.report.plotting.layout import message_figure, wrap_text
from carbench.report.plotting.style import Style, shorten
from carbench.report.tables.formatting import percent
from carbench.report.tables.result_tables import MistakeRow, read_rows

GAP = 0.12  # inches between mistakes


def draw(table: Path, style: Style, params: MistakesParams) -> Figure:
    """Draw the figure from mistakes.csv and from mistakes.npz in the same folder."""
    mistakes = read_rows(table, MistakeRow)[: params.count]
    if not mistakes:
        return message_figure(
            style, "no errors to show: none were made, or evaluate.explanations is 0"
        )
    images, maps = read_explanations(table.with_suffix(".npz"))
    columns = 1 if style.narrow else min(3, max(2, len(mistakes)))
    side = (style.width - GAP * (columns - 1)) / columns / 2
    text, head = style.row_height(3.4), style.row_height(3.2 if style.narrow else 2)
    rows = -(-len(mistakes) // columns)
    figure = Figure(figsize=(style.width, head + rows * (side + text)))
    figure.set_layout_engine("none")
    width, height = figure.get_size_inches()
    letters = style.font_size * 0.8
    room = int(72 * 2 * side / (0.62 * letters))
    for mistake in mistakes:
        row, column = divmod(mistakes.index(mistake), columns)
        left, top = column * (2 * side + GAP), head + row * (side + text)
        image, heat = images[mistake.row], maps[mistake.row]
        for place, pixels in ((left, image), (left + side, overlay_attribution(image, heat))):
            box = (place / width, 1 - (top + side) / height, side / width, side / height)
            _show(figure, box, pixels)
        figure.text(
            left / width,
            1 - (top + side + 0.04) / height,
            f"{shorten(mistake.label, room)}\n"
            f"→ {shorten(mistake.predicted, room - 8)}, {percent(mistake.confidence, 0, ' ')}",
            va="top",
            fontsize=letters,
            color=INK,
        )
    figure.text(
        0,
        1,
        wrap_text(
            "true class → predicted class, confidence; warm: evidence for the prediction", style
        ),
        va="top",
        fontsize=style.font_size * 0.9,
        color=MUTED,
    )
    return figure


def _show(figure: Figure, box: tuple[float, float, float, float], pixels: Pixels) -> None:
    """Embed an image at its native resolution: viewers scale it better than Matplotlib."""
    axes = figure.add_axes(box)
    axes.imshow(pixels, interpolation="none", aspect="auto")
    axes.set_axis_off()
