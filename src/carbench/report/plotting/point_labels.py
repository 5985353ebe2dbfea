"""Labels beside points, placed where they overlap other marks least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from carbench.report.plotting.colours import MUTED
from carbench.report.plotting.style import Style, shorten

Point = Sequence[float]

# Candidate positions of a label: offset from its point (in 1/72 inch) and text alignment.
NEAR = 4
PLACES = [
    ((x, y), "left" if x > 0 else "right", "center" if not y else "bottom" if y > 0 else "top")
    for far in (0, 12, 24)
    for y in (NEAR + far, -NEAR - far, 0)
    for x in (7 + far / 2, -7 - far / 2)
]


@dataclass(frozen=True)
class Label:
    """A name, its point in data coordinates, and its style."""

    text: str
    point: tuple[float, float]
    colour: str
    bold: bool = False


def place_labels(figure: Figure, axes: Axes, labels: Sequence[Label], style: Style) -> None:
    """Write labels beside their points, in order; the limits of the axes must be final."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # labels must not change the layout
    taken = _drawn(axes)
    for each in labels:
        candidates = [
            axes.annotate(
                shorten(each.text, 20 if style.narrow else 28),
                each.point,
                xytext=offset,
                textcoords="offset points",
                ha=across,
                va=upwards,
                color=each.colour,
                fontsize=style.font_size * 0.9,
                fontweight="bold" if each.bold else "normal",
                # A thin line connects a distant label to its point.
                arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.5}
                if abs(offset[1]) > NEAR
                else None,
            )
            for offset, across, upwards in PLACES
        ]
        boxes = np.array([box.extents for box in taken]).reshape(-1, 4)
        label = min(candidates, key=lambda one: _hidden(one, boxes, axes.bbox))
        for candidate in candidates:
            if candidate is not label:
                candidate.remove()
        taken.append(_letters(label))


def _drawn(axes: Axes) -> list[Bbox]:
    """Return boxes in pixels around the drawn lines and points, with a small margin."""
    boxes = []
    for line in axes.lines:
        corners = axes.transData.transform(line.get_xydata())
        if line.get_drawstyle() == "steps-post":
            turns = [(after[0], before[1]) for before, after in pairwise(corners)]
            path = [point for pair in zip(corners, turns, strict=False) for point in pair]
            boxes += [_around(first, second, 2) for first, second in pairwise([*path, corners[-1]])]
        elif len(corners) > 1:
            boxes.append(_around(corners[0], corners[-1], 2))
        else:
            boxes.append(_around(corners[0], corners[0], 6))
    return boxes


def _around(first: Point, second: Point, air: float) -> Bbox:
    left, right = sorted((first[0], second[0]))
    low, high = sorted((first[1], second[1]))
    return Bbox([[left - air, low - air], [right + air, high + air]])


def _hidden(label: Annotation, taken: NDArray[np.float64], room: Bbox) -> float:
    """Return the overlap of a label with boxes plus twice its area outside ``room``.

    Args:
        label: the label.
        taken: (n, 4), the boxes: left, bottom, right and top, in pixels.
        room: the box of the axes.
    """
    box = _letters(label)
    left, bottom, right, top = taken.T
    across = np.minimum(box.xmax, right) - np.maximum(box.xmin, left)
    upwards = np.minimum(box.ymax, top) - np.maximum(box.ymin, bottom)
    covered = across.clip(min=0) * upwards.clip(min=0)
    inside = Bbox.intersection(box, room)
    lost = box.width * box.height - (inside.width * inside.height if inside else 0)
    return float(sum(covered.tolist()) + 2 * lost)


def _letters(label: Annotation) -> Bbox:
    """Return the bounding box of a label's text, without the line to its point."""
    label.get_window_extent()  # updates the position of the text
    return Text.get_window_extent(label)
