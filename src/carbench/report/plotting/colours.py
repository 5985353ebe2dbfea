"""Colours shared by figures and the report, and adjustment of colours for contrast.

The report replaces the four colours below by those of its theme, which may be dark; figures use
them for nothing else. For any other colour, :func:`legible` computes a counterpart for dark pages.
"""

INK = "#1f2328"
MUTED = "#646b73"
RULE = "#d3d7db"
PAPER = "#ffffff"


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


def blend(colour: str, other: str, share: float) -> str:
    """Return ``colour`` mixed with a ``share`` (0 to 1) of ``other``."""
    parts = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round((1 - share) * one + share * two):02x}" for one, two in parts)


def legible(colour: str, paper: str, ratio: float) -> str:
    """Return a colour, darkened or lightened just enough to reach a contrast ratio.

    Args:
        colour: colour as ``#rrggbb``, like all colours here.
        paper: background colour.
        ratio: minimum contrast: 3 for marks, 4.5 for text (WCAG 2.2, 1.4.11 and 1.4.3).
    """
    goal = max(("#000000", "#ffffff"), key=lambda end: contrast(end, paper))
    steps = [blend(colour, goal, step / 20) for step in range(21)]
    return next((one for one in steps if contrast(one, paper) >= ratio), goal)


def _channels(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue


def _luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2, "relative luminance")."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (channel / 255 for channel in _channels(colour))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
