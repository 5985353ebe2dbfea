"""Figures as inline SVG, for wide and narrow screens and for light and dark themes."""

from __future__ import annotations

import re
from pathlib import Path

from markupsafe import Markup

from carbench.core.tables import missing
from carbench.report.plotting.colours import INK, MUTED, PAPER, RULE, legible

# Shared colours of figures become variables of theme.css, which depend on the theme.
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--card"}
DARK = "#15171a"  # --page of the dark theme in theme.css
COLOUR = re.compile(r": (#[0-9a-f]{6})\b")


def inline_figure(folder: Path, name: str, alt: str) -> Markup:
    """Return a figure of stage plot for the page, in its wide and its narrow version.

    The style sheet shows the version that fits the screen.

    Args:
        folder: folder of the figures.
        name: name of the figure.
        alt: alternative text for screen readers.
    """
    return Markup("").join(
        Markup('<div class="{}">{}</div>').format(kind, _inline(folder / f"{file}.svg", alt))
        for kind, file in (("wide", name), ("narrow", f"{name}-narrow"))
    )


def dark_colours(page: str) -> Markup:
    """Return the style rule with the dark-theme counterparts of a page's other figure colours."""
    used = sorted(set(re.findall(r"var\(--c-([0-9a-f]{6}),", page)))
    lines = [f"--c-{colour}: {legible(f'#{colour}', DARK, 4.5)};" for colour in used]
    return Markup("@media screen and (prefers-color-scheme: dark) {{ :root {{ {} }} }}").format(
        Markup(" ".join(lines))
    )


def _inline(path: Path, alt: str) -> Markup:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise missing(path) from None
    head, _, body = text.partition("<svg ")[2].partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    # Figures on one page must not share ids.
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{path.stem}-", body)
    body = COLOUR.sub(_variable, body)
    opening = Markup('<svg role="img" aria-label="{}" {}>').format(
        alt, Markup(box.group() if box else "")
    )
    return opening + Markup(body)


def _variable(match: re.Match[str]) -> str:
    colour = match[1]
    named = VARIABLES.get(colour)
    return f": var({named})" if named else f": var(--c-{colour[1:]}, {colour})"
