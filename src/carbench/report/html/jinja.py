"""Pages out of Jinja templates, alike for all that carbench shows."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

THEME = Path(__file__).with_name("theme.css")


def html_environment(folder: Path) -> Environment:
    """Return an environment for the templates in a folder: escapes everything, guesses nothing."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def stylesheet(file: Path) -> Markup:
    """Return the style for a page that is one file: that of all pages, then the page's own."""
    return Markup(THEME.read_text(encoding="utf-8") + file.read_text(encoding="utf-8"))
