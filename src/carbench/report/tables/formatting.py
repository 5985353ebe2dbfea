"""Numbers as figures write them."""

from __future__ import annotations


def percent(value: float, digits: int = 1) -> str:
    """Return "54.1 %" for 0.541."""
    return f"{100 * value:.{digits}f} %"


def percents(low: float, high: float, digits: int = 1) -> str:
    """Return "51.0–57.2" for an interval."""
    return f"{100 * low:.{digits}f}–{100 * high:.{digits}f}"


def points(value: float) -> str:
    """Return "+1.6" (percentage points) for 0.016."""
    text = f"{100 * value:+.1f}".replace("-", "−")
    return text if float(text[1:]) else "0.0"


def point_interval(low: float, high: float) -> str:
    """Return "−0.6 to +2.7" for an interval of differences."""
    return f"{points(low)} to {points(high)}"
