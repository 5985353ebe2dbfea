"""The documentation site, built by Sphinx from the Markdown files of the repository.

The source folder is the whole repository, so that links between files work as they do on a forge:
a link to a page leads to the page, a link to any other file (``params.yaml``) to a copy of it.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import textwrap
import tomllib
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pygments.lexers.python import PythonLexer
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
# The code of this clone, also where several share an environment.
sys.path.insert(0, str(ROOT / "src"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# From the lowest layer to the highest.
LAYERS = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"][::-1]
REFERENCE = "docs/reference"

# The pages below the README; the same groups as in its section "Documentation".
NAVIGATION = {
    "Using it": [
        "Installation <installation>",
        "Your own images <data>",
        "Parameters <parameters>",
        "Screening <screening>",
        "Fine-tuning recipe <recipes>",
        "GPUs <gpus>",
        "Clusters <cluster>",
        "Workers without a shared folder <remote_jobs>",
        "Launchers <launchers>",
        "Google Cloud <google_cloud>",
        "Progress and trackers <tracking>",
        "Experiments <experiments>",
        "Sharing <sharing>",
        "Serving <serving>",
        "Container images <images>",
        "Deployment <deployment>",
        "Drift <drift>",
    ],
    "Understanding the results": [
        "An example study <example/README>",
        "Duplicates <audit>",
        "Train, validation and test sets <split>",
        "Evaluation <evaluation>",
        "Statistics <statistics>",
        "Thresholds and prediction sets <decisions>",
        "Cost <cost>",
        "Would more images help? <learning_curve>",
        "Figures <figures>",
    ],
    "How it is built": [
        "Architecture <architecture>",
        "Two engines <engines>",
        "Adding to it <extending>",
        "Performance <performance>",
        "Profiling <profiling>",
    ],
    "Working on it": ["Contributing </CONTRIBUTING>", "Changelog </CHANGELOG>"],
    "Reference": [f"carbench.{name} <reference/{name}>" for name in LAYERS],
}

project = "carbench"
author = "The carbench authors"
project_copyright = f"2026, {author}"
version = release = PROJECT["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = ["*.md", "docs/**.md"]
# Other folders are not even looked through: environments and results are large.
exclude_patterns = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "docs"]

myst_heading_anchors = 4
default_role = "code"
smartquotes = False

add_module_names = False
toc_object_entries = False
autodoc_use_type_comments = False
autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"carbench {version}"
html_static_path = []
html_copy_source = False
html_use_index = False
html_domain_indices = False
html_show_sphinx = False
# The colours of the report (src/carbench/report/html/theme.css).
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#005a94",
        "color-brand-content": "#005a94",
        "color-brand-visited": "#005a94",
        "color-background-primary": "#fcfbf8",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7cb9e8",
        "color-brand-content": "#7cb9e8",
        "color-brand-visited": "#7cb9e8",
        "color-background-primary": "#15171a",
    },
}


def modules(package: str) -> list[str]:
    """Return the names of a package and of all modules in it, without private ones."""
    folder = ROOT / "src" / package.replace(".", "/")
    found = pkgutil.walk_packages([str(folder)], f"{package}.")
    names = [package, *sorted(module.name for module in found)]
    return [name for name in names if "._" not in name]


def import_all(app: Sphinx) -> None:
    """Import all modules first: where autodoc has read a pydantic model, no other can be made."""
    for layer in LAYERS:
        for name in modules(f"carbench.{layer}"):
            importlib.import_module(name)


def complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Add the navigation to the README, and its modules to each page of the reference."""
    if page == root_doc:
        for caption, pages in NAVIGATION.items():
            entries = [re.sub("<(?!/)", "</docs/", page) for page in pages]
            options = [":hidden:", ":titlesonly:", f":caption: {caption}"]
            source[0] += "\n".join(["\n```{toctree}", *options, "", *entries, "```\n"])
    if page.startswith(f"{REFERENCE}/"):
        package = f"carbench.{Path(page).name}"
        for name in modules(package):
            heading = "" if name == package else f"\n## {name}\n"
            source[0] += f"{heading}\n```{{eval-rst}}\n.. automodule:: {name}\n```\n"


def plain(
    app: Sphinx, kind: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Turn the Markdown table of a docstring into a literal block, and keep |x| as it is."""
    text = "\n".join(lines)
    tables = re.compile(r"^(?:\|.*\n)+", re.M)
    rows = [textwrap.indent(table, "    ") for table in tables.findall(text)]
    prose = [part.replace("|", r"\|") for part in tables.split(text)]
    lines[:] = "".join(
        part + (f"::\n\n{table}" if table else "")
        for part, table in zip_longest(prose, rows, fillvalue="")
    ).split("\n")


def lead_to_readme(app: Sphinx, error: Exception | None) -> None:
    """Let the site's address lead to its first page."""
    if error is None:
        (Path(app.outdir) / "index.html").write_text(
            f'<!doctype html><meta charset="utf-8"><title>{project}</title>'
            f'<meta http-equiv="refresh" content="0; url={root_doc}.html">'
            f'<a href="{root_doc}.html">{project}</a>\n'
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what this file adds."""
    app.add_lexer("snakemake", PythonLexer)
    app.connect("builder-inited", import_all)
    app.connect("source-read", complete)
    app.connect("autodoc-process-docstring", plain)
    app.connect("build-finished", lead_to_readme)
    return {"parallel_read_safe": True}
