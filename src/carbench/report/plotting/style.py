"""Shared style of the figures: colours, fonts, and files that are byte-identical on every run.

Each figure is drawn twice with the same font size: ``plot.style.width`` wide, and narrow for
phones, with a separate layout (:attr:`Style.narrow`).

The background is drawn, so that a figure is also readable on a dark page. Text is kept as text
instead of outlines: it can be searched and read aloud, uses the font of the surrounding page, and
displays names in any script, even if the bundled font, used only for measuring, lacks the glyphs.
The PNG version, for slides and print, contains only glyphs of the bundled font.
"""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import style
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from carbench.params.plot import StyleParams
from carbench.report.plotting.colours import INK, MUTED, PAPER, RULE, blend, contrast, legible

# Width of a narrow figure relative to the font size: 13-pixel text on a 320-pixel screen.
NARROW = 24.5
LETTER = 0.58  # mean width of a character relative to the font size


@dataclass(frozen=True)
class Mark:
    """Colour and marker shape of one backbone in all figures."""

    colour: str
    shape: str


class Style:
    """Colours and sizes of one figure.

    Args:
        params: section ``plot.style``.
        narrow: for a phone; the width then depends on the font size, not on ``params.width``.

    Attributes:
        marks: marks of the first backbones in table order, the chosen one first.
    """

    def __init__(self, params: StyleParams, narrow: bool = False) -> None:
        self.narrow = narrow
        self.width = NARROW * params.font_size / 72 if narrow else params.width
        self.font_size = params.font_size
        self.dpi = params.dpi
        mpl.rcdefaults()
        # Matplotlib includes seaborn's palettes; seaborn itself is imported only where it draws.
        name = {"dark": "dark-palette"}.get(params.palette, params.palette)
        palette = style.library[f"seaborn-v0_8-{name}"]["axes.prop_cycle"]
        # In all six palettes, the first colour is blue (emphasis) and the third is red (warning).
        cycle = [legible(colour.lower(), PAPER, 3) for colour in palette.by_key()["color"]]
        self.focus, _, self.warning, *_ = cycle
        self.marks = [
            Mark(cycle[place], shape)
            for place, shape in ((0, "o"), (1, "s"), (3, "^"), (5, "D"), (4, "v"))
        ]
        self.shades = _shades(self.focus)
        for key, value in _settings(params.font_size).items():
            mpl.rcParams[key] = value  # type: ignore[index]
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")

    def row_height(self, lines: float) -> float:
        """Return the height in inches of a number of lines of text."""
        return lines * self.font_size / 72

    def max_characters(self, width: float | None = None, size: float = 1.0) -> int:
        """Return how many characters fit on a line.

        Args:
            width: width of the line in inches; None: the width of the figure.
            size: size of the text relative to ``font_size``.
        """
        room = self.width if width is None else width
        return int(72 * room / (LETTER * size * self.font_size))

    def mark(self, place: int) -> Mark:
        """Return the mark of the backbone at a table position; grey after the first ones."""
        return self.marks[place] if place < len(self.marks) else Mark(MUTED, "o")


def save_figure(figure: Figure, stem: Path, dpi: int | None = None) -> None:
    """Write a figure as ``<stem>.svg`` and optionally ``<stem>.png``, without dates or random ids.

    Args:
        figure: the figure.
        stem: path without extension; its name makes the ids in the SVG unique to this figure.
        dpi: dots per inch of the PNG; None: no PNG.
    """
    no_metadata: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": stem.name}):
        figure.savefig(stem.with_name(f"{stem.name}.svg"), metadata=no_metadata)
    if dpi:
        figure.savefig(stem.with_name(f"{stem.name}.png"), dpi=dpi, metadata={"Software": None})


def percent_axis() -> FuncFormatter:
    """Return a formatter of fractions: "55 %" for 0.55."""
    return FuncFormatter(lambda value, _: f"{100 * value:.4g} %")


def points_axis() -> FuncFormatter:
    """Return a formatter of differences of fractions, in percentage points: "+5" for 0.05."""

    def written(value: float, _: int | None) -> str:
        return f"{100 * value:+.4g}".replace("-", "−") if abs(value) > 1e-9 else "0"

    return FuncFormatter(written)


def log_ticks(low: float, high: float) -> list[float]:
    """Return round tick values for a logarithmic axis: at most seven, or one per decade."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3)):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 7:
            return ticks
    return [10.0**decade for decade in decades if low <= 10.0**decade <= high]


def shorten(name: str, most: int) -> str:
    """Shorten a name to ``most`` characters by omitting its middle: names differ at the ends."""
    if len(name) <= most:
        return name
    tail = (most - 1) // 2
    return f"{name[: most - 1 - tail]}…{name[-tail:]}"


def _shades(colour: str) -> LinearSegmentedColormap:
    """Return a colour map from nearly transparent to the strongest tint on which ink is legible.

    The background shows through, so that the scale also works on a dark page with light ink.
    """
    strengths = [step / 20 for step in range(14, 0, -1)]
    enough = (one for one in strengths if contrast(INK, blend(PAPER, colour, one)) >= 4.5)
    strongest = next(enough, strengths[-1])
    ends = [to_rgba(colour, 0.04), to_rgba(colour, strongest)]
    return LinearSegmentedColormap.from_list("shades", ends)


def _settings(size: float) -> dict[str, Any]:
    return {
        "font.family": "sans-serif",
        # Bundled with Matplotlib: text has the same size on every machine.
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": size,
        "text.parse_math": False,  # a class may be called "$1 $2"
        "text.color": INK,
        "svg.fonttype": "none",
        "figure.constrained_layout.use": True,
        "figure.facecolor": PAPER,
        "axes.facecolor": PAPER,
        "axes.edgecolor": RULE,
        "axes.labelcolor": MUTED,
        "axes.labelsize": size * 0.9,
        "axes.titlesize": size,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": RULE,
        "grid.linewidth": 0.6,
        "xtick.color": RULE,
        "ytick.color": RULE,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "xtick.labelsize": size * 0.9,
        "ytick.labelsize": size * 0.9,
        "legend.frameon": False,
        "legend.fontsize": size * 0.9,
        "legend.labelcolor": MUTED,
        "legend.handletextpad": 0.5,
        "legend.columnspacing": 1.6,
    }
