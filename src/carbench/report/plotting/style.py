"""What all figures share: colours, type, and files that are the same to the byte on every run.

Each figure is drawn twice, with the same letters: as wide as ``plot.style.width``, and narrow for a
phone, where it has a layout of its own (:attr:`Style.narrow`).

The paper is drawn, so that a figure is readable on a dark page too. Letters stay text instead of
outlines: they can be searched and read aloud, take the typeface of the page that shows them, and
names in any script appear although the bundled font, which only measures, may lack them. The PNG
beside it, for slides and print, has only the letters of the bundled font.
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

# So many times its letters' height is a narrow figure wide: letters of 13 pixels at 320.
NARROW = 24.5
LETTER = 0.58  # mean width of a letter, as a part of its height


@dataclass(frozen=True)
class Mark:
    """The colour and the shape that stand for one backbone in all figures."""

    colour: str
    shape: str


class Style:
    """Colours and sizes of one figure.

    Args:
        params: section ``plot.style``.
        narrow: for a phone; :attr:`width` is then what fits, whatever the section says.

    Attributes:
        marks: of the first backbones in the order of the tables, the chosen one first.
    """

    def __init__(self, params: StyleParams, narrow: bool = False) -> None:
        self.narrow = narrow
        self.width = NARROW * params.font_size / 72 if narrow else params.width
        self.font_size = params.font_size
        self.dpi = params.dpi
        mpl.rcdefaults()
        # matplotlib brings seaborn's palettes; seaborn itself loads only where it draws.
        name = {"dark": "dark-palette"}.get(params.palette, params.palette)
        palette = style.library[f"seaborn-v0_8-{name}"]["axes.prop_cycle"]
        # Blue for what the eye shall find first, red for what warns: so in all six palettes.
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
        """Height in inches of so many lines of text."""
        return lines * self.font_size / 72

    def max_characters(self, width: float | None = None, size: float = 1.0) -> int:
        """How many letters fit beside each other.

        Args:
            width: in inches; of the whole figure if not given.
            size: of the letters, as a part of ``font_size``.
        """
        room = self.width if width is None else width
        return int(72 * room / (LETTER * size * self.font_size))

    def mark(self, place: int) -> Mark:
        """What stands for the backbone at a place of the tables; grey after the first ones."""
        return self.marks[place] if place < len(self.marks) else Mark(MUTED, "o")


def save_figure(figure: Figure, stem: Path, dpi: int | None = None) -> None:
    """Write a figure as ``<stem>.svg`` and perhaps ``<stem>.png``, without dates or random ids.

    Args:
        figure: the figure.
        stem: where to write; its name makes the ids inside differ from those of other figures.
        dpi: dots per inch of the PNG; without it there is none.
    """
    no_metadata: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": stem.name}):
        figure.savefig(stem.with_name(f"{stem.name}.svg"), metadata=no_metadata)
    if dpi:
        figure.savefig(stem.with_name(f"{stem.name}.png"), dpi=dpi, metadata={"Software": None})


def percent_axis() -> FuncFormatter:
    """Return labels such as "55 %" for parts of one."""
    return FuncFormatter(lambda value, _: f"{100 * value:.4g} %")


def points_axis() -> FuncFormatter:
    """Return labels such as "+5" (percentage points) for differences of parts of one."""

    def written(value: float, _: int | None) -> str:
        return f"{100 * value:+.4g}".replace("-", "−") if abs(value) > 1e-9 else "0"

    return FuncFormatter(written)


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers for a logarithmic axis, at most seven, however short or long it is."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3)):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 7:
            return ticks
    return [10.0**decade for decade in decades if low <= 10.0**decade <= high]


def shorten(name: str, most: int) -> str:
    """Return at most ``most`` characters of a name; its middle goes: names differ at the ends."""
    if len(name) <= most:
        return name
    tail = (most - 1) // 2
    return f"{name[: most - 1 - tail]}…{name[-tail:]}"


def _shades(colour: str) -> LinearSegmentedColormap:
    """From nothing to a colour so strong that letters in ink are still legible on it.

    The paper shines through: on a dark page, where ink is light, the scale turns with it.
    """
    strengths = [step / 20 for step in range(14, 0, -1)]
    enough = (one for one in strengths if contrast(INK, blend(PAPER, colour, one)) >= 4.5)
    strongest = next(enough, strengths[-1])
    ends = [to_rgba(colour, 0.04), to_rgba(colour, strongest)]
    return LinearSegmentedColormap.from_list("shades", ends)


def _settings(size: float) -> dict[str, Any]:
    return {
        "font.family": "sans-serif",
        # The only font that comes with matplotlib: the same measures on every machine.
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
