"""Fills the page's template. File and class names come from outside: everything is escaped."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from carbench.params.report import ReportParams
from carbench.report.evidence import Evidence
from carbench.report.pictures import (
    data_uri,
    embedded,
    inline_figure,
    pick_pairs,
    thumbnail,
    warmed,
)

HERE = Path(__file__).parent

# What each figure shows, for those who cannot see it; all its numbers are in the tables.
FIGURES = {
    "accuracy": "Accuracy of each backbone on the clean test pictures, with its interval",
    "pareto": "Accuracy of each backbone against its cost, with the line of the best trade-offs",
    "differences": "Paired differences of all backbones, told apart or not",
    "curves": "Learning curves of each backbone",
    "confusion": "Confusion matrix of each backbone: true classes against predicted ones",
    "recall": "Recall of each class, with its interval, by backbone",
    "reliability": "Stated confidence against true accuracy of each backbone",
    "leak": "Accuracy on the clean, published and leaked test pictures, and the leak gap",
    "robustness": "Accuracy of each backbone on corrupted pictures",
    "classes": "Pictures of each class, duplicates among them, and the leak of the published split",
}


def render(
    evidence: Evidence, images: Path, contact_sheet: Path, figures: Path, params: ReportParams
) -> str:
    """Return the whole page.

    Args:
        evidence: what the page says.
        images: the folder of the pictures.
        contact_sheet: the audit's JPEG of duplicate groups.
        figures: the folder of the figures.
        params: title and counts.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "count": count,
        "short": short,
        "listed": listed,
        "number": number,
    }
    script = (HERE / "page.js").read_text(encoding="utf-8")
    verdicts = {
        "tied": [rival for rival in evidence.rivals if rival.tied],
        "worse": [each for each in evidence.rivals if each.versus.difference_low > 0],
        "better": [each for each in evidence.rivals if each.versus.difference_high < 0],
    }
    backbones = len(evidence.backbones)
    return environment.get_template("page.html").render(
        title=params.title,
        script=Markup(script),
        script_hash=source_hash(script),
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        evidence=evidence,
        audit=evidence.audit,
        chosen=evidence.chosen,
        rivals=evidence.rivals,
        **verdicts,
        comparisons=backbones * (backbones - 1) // 2,
        pairs=pick_pairs(evidence.audit["examples"], evidence.published, params.duplicate_pairs),
        mistakes=evidence.mistakes[: params.mistakes],
        figures={
            name: inline_figure(figures / f"{name}.svg", alt) for name, alt in FIGURES.items()
        },
        thumbnail=lambda image: thumbnail(images / image),
        heat=lambda row: warmed(*(arrays[row] for arrays in evidence.explanations)),
        contact_sheet=embedded(contact_sheet, "image/jpeg"),
        downloads={
            name: data_uri(text.encode(), "text/csv") for name, text in evidence.downloads.items()
        },
        machine=machine,
    )


def source_hash(script: str) -> str:
    """Return what a content security policy calls an inline script by."""
    digest = hashlib.sha256(script.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()


def percent(value: float, digits: int = 1) -> str:
    """Return "54.1 %" for 0.541."""
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def points(value: float, sign: bool = False) -> str:
    """Return percentage points without their name: "12.9" for 0.129, "+12.9" with the sign."""
    text = f"{100 * value:{'+' if sign else ''}.1f}"
    return text.replace("-", "−")


def count(value: float, noun: str = "") -> str:
    """Return "1,234", or "1 picture", "2 pictures" if a noun is given."""
    text = f"{value:,.0f}"
    return f"{text}\N{NO-BREAK SPACE}{noun}{'' if value == 1 else 's'}" if noun else text


def short(value: float) -> str:
    """Return three significant digits and a unit: "373 thousand", "9.69 million"."""
    for size, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if value >= size:
            return f"{number(value / size)}\N{NO-BREAK SPACE}{name}"
    return number(value)


def number(value: float) -> str:
    """Return three significant digits, never an exponent."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def listed(names: list[str]) -> str:
    """Return "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def machine(hardware: dict[str, Any], device: str) -> str:
    """Return the part of a machine that computed: its GPU, or its processor."""
    if device == "cuda" and hardware["gpus"]:
        return str(hardware["gpus"][0])
    return f"{hardware['processor']} ({count(hardware['cores'], 'core')})"
