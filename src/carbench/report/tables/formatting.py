"""Formatting of numbers for figures and HTML pages."""

from __future__ import annotations

NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def percent(value: float, digits: int = 1, space: str = NO_BREAK_SPACE) -> str:
    """Return "54.1 %" for 0.541."""
    return f"{100 * value:.{digits}f}{space}%"


def percent_interval(low: float, high: float, digits: int = 1) -> str:
    """Return "51.0–57.2" for an interval of fractions."""
    return f"{100 * low:.{digits}f}–{100 * high:.{digits}f}"


def points(value: float, sign: bool = False) -> str:
    """Return percentage points without a unit: "12.9" for 0.129, "+12.9" with the sign."""
    text = f"{100 * value:{'+' if sign else ''}.1f}".replace("-", "−")
    return text if float(text.lstrip("+−")) else "0.0"


def points_interval(low: float, high: float) -> str:
    """Return "−0.6 to +2.7" for an interval of differences."""
    return f"{points(low, sign=True)} to {points(high, sign=True)}"


def count(value: float, noun: str = "") -> str:
    """Return "1,234", or "1 image" and "2 images" if a noun is given."""
    text = f"{value:,.0f}"
    return f"{text}{NO_BREAK_SPACE}{noun}{'' if value == 1 else 's'}" if noun else text


def short(value: float) -> str:
    """Return three significant digits and a unit: "373 thousand", "9.69 million"."""
    for size, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if value >= size:
            return f"{number(value / size)}{NO_BREAK_SPACE}{name}"
    return number(value)


def compact(value: float) -> str:
    """Return three significant digits and a letter, for tables: "373 k", "9.69 M"."""
    text = short(value)
    for name, letter in (("thousand", "k"), ("million", "M"), ("billion", "G")):
        text = text.replace(name, letter)
    return text


def number(value: float) -> str:
    """Return three significant digits, but at most three decimals and never an exponent."""
    digits = 3 if 0 < abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def thousandths(value: float) -> str:
    """Return a number with three decimals."""
    return f"{value:.3f}"


def join_names(names: list[str]) -> str:
    """Return "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
