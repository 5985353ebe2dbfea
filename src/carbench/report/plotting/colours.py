"""Colours that figures share with the page around them, and what makes a colour legible.

Figures use the four named here for nothing else: the report turns exactly these into the colours of
its page, which may be dark. Any other colour gets a counterpart for a dark page by :func:`legible`.
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
    """Return ``colour`` with a ``share`` (0 to 1) of ``other`` in it."""
    parts = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round((1 - share) * one + share * two):02x}" for one, two in parts)


def legible(colour: str, paper: str, ratio: float) -> str:
    """Return a colour, darkened or lightened just so far that it stands out.

    Args:
        colour: as ``#rrggbb``, like all colours here.
        paper: what it stands on.
        ratio: the least contrast: 3 for marks, 4.5 for letters (WCAG 2.2, 1.4.3 and 1.4.11).
    """
    goal = max(("#000000", "#ffffff"), key=lambda end: contrast(end, paper))
    steps = [blend(colour, goal, step / 20) for step in range(21)]
    return next((one for one in steps if contrast(one, paper) >= ratio), goal)


def _channels(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2, "relative luminance")."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (channel / 255 for channel in _channels(colour))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
