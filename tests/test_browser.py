"""The report in a real browser: nothing is loaded, nothing sticks out, on a phone as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import CHROMIUM, Project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine (Debian: chromium)"),
]


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


def test_a_table_is_sorted_with_the_keyboard(smoke_run: Project, browser: Any) -> None:
    page = browser.new_page()
    page.goto((smoke_run.root / "results/report.html").as_uri())
    table = page.locator("table.sortable").first
    column = table.locator("thead th").nth(1)

    def accuracies() -> list[float]:
        cells = table.locator("tbody td:nth-child(2) b data")
        return [float(value) for value in cells.evaluate_all("all => all.map(one => one.value)")]

    for order in ("descending", "ascending"):
        column.get_by_role("button").focus()
        page.keyboard.press("Enter")
        assert column.get_attribute("aria-sort") == order
        assert accuracies() == sorted(accuracies(), reverse=order == "descending")
    assert table.locator("[aria-sort]").count() == 1
    page.close()


def test_a_table_stands_without_its_script(smoke_run: Project, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((smoke_run.root / "results/report.html").as_uri())
    assert page.locator("th button").count() == 0
    assert page.locator("table.sortable").first.locator("tbody tr").count() == 2
    context.close()


def test_a_script_that_is_not_the_pages_own_does_not_run(
    smoke_run: Project, browser: Any, tmp_path: Path
) -> None:
    html = (smoke_run.root / "results/report.html").read_text(encoding="utf-8")
    other = "<script>document.title = 'stolen'</script></body>"
    (tmp_path / "report.html").write_text(html.replace("</body>", other), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert page.title() != "stolen"
    assert page.locator("th button").count() > 0
    page.close()


def test_a_downloaded_table_is_the_file(smoke_run: Project, browser: Any, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto((smoke_run.root / "results/report.html").as_uri())
    with page.expect_download() as waiting:
        page.get_by_role("link", name="summary.csv").click()
    waiting.value.save_as(tmp_path / "summary.csv")
    assert waiting.value.suggested_filename == "summary.csv"
    made = (smoke_run.root / "results/summary.csv").read_bytes()
    assert (tmp_path / "summary.csv").read_bytes() == made
    page.close()


def test_nothing_is_cut_on_paper(smoke_run: Project, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 718, "height": 1000})  # A4 within its margins
    page.goto((smoke_run.root / "results/report.html").as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    wide = "[...document.querySelectorAll('table, svg')].map(e => e.getBoundingClientRect().right)"
    assert max(page.evaluate(wide)) <= 718
    assert not page.locator(".download, nav").first.is_visible()
    page.close()
