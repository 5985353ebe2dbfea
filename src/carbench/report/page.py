"""Renders the sections on one page. File and class names are untrusted: all values are escaped."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from markupsafe import Markup

from carbench.cost.file_names import MEASURED
from carbench.params.report import ReportParams
from carbench.report.embedded_images import data_uri, explanation, sheet, thumbnail
from carbench.report.html.jinja import html_environment, stylesheet
from carbench.report.inline_svg import dark_colours, inline_figure
from carbench.report.sections import SECTIONS
from carbench.report.study_results import ResultPaths, StudyResults
from carbench.report.table_cells import FILTERS, cell, machine

HERE = Path(__file__).parent


def render_report(sources: ResultPaths, params: ReportParams) -> str:
    """Return the report as an HTML page.

    Args:
        sources: outputs of the other stages.
        params: section ``report``.
    """
    study = StudyResults(sources)
    images = sources.data / "images"
    environment = html_environment(HERE)
    environment.filters |= {form.__name__: form for form in FILTERS}
    environment.globals |= {form.__name__: form for form in (*FILTERS, cell, machine)}
    environment.globals |= {
        "study": study,
        "chosen": study.chosen,
        "figure_of": lambda name, alt: inline_figure(sources.figures, name, alt),
        "table_of": lambda name: data_uri(_table(sources, name), "text/csv;charset=utf-8"),
        "thumbnail": lambda image: thumbnail(images / image),
        "explanation": explanation,
        "sheet": lambda: sheet(sources.audit / "groups.jpg"),
    }
    rendered = []
    for section in SECTIONS:
        if (content := section.load(study, params)) is not None:
            template = environment.get_template(f"sections/{section.name}.html")
            rendered.append((section, Markup(template.render(content=content, section=section))))
    script = (HERE / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        title=params.title,
        css=stylesheet(HERE / "page.css") + dark_colours("".join(text for _, text in rendered)),
        script=Markup(script),
        script_hash=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
        sections=rendered,
    )


def _table(sources: ResultPaths, name: str) -> bytes:
    """Return the content of a table that can be downloaded."""
    others = {
        "choice": sources.choice,
        "shortlist": sources.shortlist / "shortlist.csv",
        "measured": sources.cost / MEASURED,
        "learning_curve": sources.learning_curve / "learning_curve.csv",
        "extrapolation": sources.learning_curve / "extrapolation.csv",
    }
    return others.get(name, sources.tables / f"{name}.csv").read_bytes()
