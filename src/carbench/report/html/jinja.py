"""Jinja environment and style sheet shared by all HTML pages."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

THEME = Path(__file__).with_name("theme.css")


def html_environment(folder: Path) -> Environment:
    """Return an environment that escapes all values and raises an error for undefined names."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def stylesheet(file: Path) -> Markup:
    """Return the shared style sheet followed by that of a page, to be inlined in the page."""
    return Markup(THEME.read_text(encoding="utf-8") + file.read_text(encoding="utf-8"))
