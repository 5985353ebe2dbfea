"""The documentation site: it builds without a warning, and all its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from carbench.engines.locks import named_lock
from conftest import ROOT, active_environment

REFERENCE = ROOT / "docs/reference"
# Attributes whose content a browser loads or a reader follows.
LOADED = {("img", "src"), ("script", "src"), ("link", "href")}


@dataclass
class Page(HTMLParser):
    """What a page links to, what it loads, and the places in it that links may name."""

    links: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.places.add(value)
            elif (tag, name) in LOADED and value:
                self.loaded.add(value)
            elif (tag, name) == ("a", "href") and value:
                self.links.add(value)


def package_layers() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return settings["tool"]["importlinter"]["contracts"][0]["layers"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make site` does, once for all processes of the tests."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, finished = shared / "site", shared / "site-done"
    with named_lock(shared, "site", on_wait=print):
        if not finished.exists():
            build(folder)
            finished.touch()
    return folder


def build(folder: Path) -> None:
    options = ["--quiet", "--fail-on-warning", "--keep-going", "--conf-dir", "docs/tools"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ".", folder],
        cwd=ROOT,
        env=active_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-8000:]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """All pages of the site by their files."""
    found = {}
    for path in site.rglob("*.html"):
        found[path.resolve()] = page = Page()
        page.feed(path.read_text())
    return found


def test_every_package_has_a_page_in_the_reference() -> None:
    assert {page.stem for page in REFERENCE.glob("*.md")} == set(package_layers())


@pytest.mark.slow
def test_every_markdown_file_is_a_page(site: Path) -> None:
    sources = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    assert len(sources) > 20
    for source in sources:
        assert (site / source.relative_to(ROOT)).with_suffix(".html").is_file(), source


@pytest.mark.slow
def test_the_first_page_leads_to_every_group_of_pages(site: Path, pages: dict[Path, Page]) -> None:
    readme = pages[(site / "README.html").resolve()]
    linked = {urldefrag(link).url for link in readme.links}
    assert {"docs/data.html", "docs/statistics.html", "docs/architecture.html"} <= linked
    assert {"docs/example/README.html", "CONTRIBUTING.html", "CHANGELOG.html"} <= linked
    assert {f"docs/reference/{name}.html" for name in package_layers()} <= linked
    assert "README.html" in (site / "index.html").read_text()


@pytest.mark.slow
def test_the_reference_is_made_of_docstrings(site: Path, pages: dict[Path, Page]) -> None:
    page = site / "docs/reference/core.html"
    assert "carbench.core.errors.CarbenchError" in pages[page.resolve()].places
    words = re.sub(r"<[^>]+>", "", page.read_text())
    assert "printed without a traceback" in words
    assert ":func:" not in words


@pytest.mark.slow
def test_links_and_anchors_lead_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    broken, checked = [], 0
    for path, page in pages.items():
        for link in page.links | page.loaded:
            if urlsplit(link).scheme:
                continue
            checked += 1
            address, place = urldefrag(unquote(link))
            target = (path.parent / address.split("?")[0]).resolve() if address else path
            known = pages[target].places if target in pages else set()
            if not target.is_file() or (place and target in pages and place not in known):
                broken.append(f"{path.relative_to(site.resolve())}: {link}")
    assert checked > 1000
    assert not broken


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(pages: dict[Path, Page]) -> None:
    loaded = {each for page in pages.values() for each in page.loaded}
    assert not {each for each in loaded if urlsplit(each).netloc}
