"""The report in a real browser: nothing is loaded or sticks out; it sorts; tables download."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Project

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine (Debian: chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_report_reads_well(smoke_run: Project, browser: Any, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url.split(":")[0]))
    page.on("console", lambda message: said.append(message.text))
    page.goto((smoke_run.root / "results/report.html").as_uri())
    assert set(asked) <= {"file", "data"}
    assert asked.count("file") == 1
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    dark = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] < 128"
    )
    assert dark == (scheme == "dark")
    assert "validation" in page.inner_text("body")
    page.close()


def test_the_comparison_sorts_by_mouse_and_keyboard(smoke_run: Project, browser: Any) -> None:
    page = browser.new_page()
    page.goto((smoke_run.root / "results/report.html").as_uri())
    column = "#comparison tbody tr [data-key=parameters]"

    def parameters() -> list[float]:
        return [float(cell.get_attribute("data-value")) for cell in page.query_selector_all(column)]

    button = page.get_by_role("button", name="Parameters")
    button.click()
    assert parameters() == sorted(parameters(), reverse=True)
    button.press("Enter")
    assert parameters() == sorted(parameters())
    heads = page.query_selector_all("#comparison th[aria-sort=ascending]")
    assert [head.inner_text() for head in heads] == ["Parameters"]
    page.close()


def test_a_table_is_downloaded_as_it_was_written(smoke_run: Project, browser: Any) -> None:
    page = browser.new_page(accept_downloads=True)
    page.goto((smoke_run.root / "results/report.html").as_uri())
    with page.expect_download() as downloading:
        page.get_by_role("link", name="summary.csv").click()
    download = downloading.value
    assert download.suggested_filename == "summary.csv"
    assert (
        Path(download.path()).read_bytes() == (smoke_run.root / "results/summary.csv").read_bytes()
    )
    page.close()
