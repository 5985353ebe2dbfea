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


# Elements that end right of their box, or of the window where nothing scrolls around them.
STICKING_OUT = """() => {
  const found = [];
  for (const each of document.querySelectorAll("main *, header *, .contents *")) {
    const box = each.getBoundingClientRect();
    if (!box.width || each.closest("svg *, .hidden")) continue;
    const limit = each.closest(".scroll") && !each.matches(".scroll") ? Infinity : innerWidth;
    if (box.right > limit + 0.5 || box.left < -0.5) found.push(each.outerHTML.slice(0, 120));
  }
  return found;
}"""
# Of each figure that is shown: its box, and the outermost of what is drawn in it.
FIGURES = """() => [...document.querySelectorAll("figure.chart")].map((figure) => {
  const all = [...figure.querySelectorAll("svg")];
  const shown = all.filter((svg) => svg.getBoundingClientRect().width);
  const box = shown[0].getBoundingClientRect();
  const texts = [...shown[0].querySelectorAll("text")];
  const rights = texts.map((text) => text.getBoundingClientRect());
  return {
    name: figure.className,
    shown: shown.length,
    left: Math.min(...rights.map((one) => one.left)) - box.left,
    right: box.right - Math.max(...rights.map((one) => one.right)),
    end: innerWidth - box.right,
    letters: Math.min(...rights.map((one) => one.height)),
  };
})"""
# The contrast of letters with the page, of all that is written in the page or a figure.
CONTRAST = """() => {
  const light = (colour) => {
    const part = colour.match(/[0-9.]+/g).slice(0, 3).map((one) => one / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
  };
  const page = light(getComputedStyle(document.body).backgroundColor);
  const ratios = [];
  for (const each of document.querySelectorAll("p, dt, dd, th, td, h2, figcaption, a, svg text")) {
    if (!each.getClientRects().length || each.closest(".hidden")) continue;
    const style = getComputedStyle(each);
    const own = light(each.matches("text") ? style.fill : style.color);
    ratios.push([(Math.max(own, page) + 0.05) / (Math.min(own, page) + 0.05), each.textContent]);
  }
  return ratios.sort((one, other) => one[0] - other[0])[0];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 390, 1280])
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
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.evaluate(STICKING_OUT) == []
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    for figure in page.evaluate(FIGURES):
        assert figure["shown"] == 1, figure
        assert min(figure["left"], figure["right"], figure["end"]) >= -0.5, figure
        assert figure["letters"] >= 8, figure
    ratio, text = page.evaluate(CONTRAST)
    assert ratio >= 4.5, text
    dark = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] < 128"
    )
    assert dark == (scheme == "dark")
    assert "validation" in page.inner_text("body")
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_contents_stay_and_lead_there(smoke_run: Project, browser: Any, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto((smoke_run.root / "results/report.html").as_uri())
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    if width == 390:
        page.get_by_text("Contents", exact=True).click()
    contents = page.get_by_role("navigation", name="Contents")
    links = contents.get_by_role("link")
    assert links.count() >= 8
    link = links.nth(links.count() // 2)
    assert link.evaluate("one => one.getBoundingClientRect().top < innerHeight")
    target = link.get_attribute("href")
    link.click()
    page.wait_for_function(
        "id => Math.abs(document.querySelector(id).getBoundingClientRect().top) < 100", arg=target
    )
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
    for hidden in (".download", "nav", "details.contents", ".hint"):
        assert not page.locator(hidden).first.is_visible()
    # The answer's figure and its caption are on the first page: A4 within its margins.
    caption = page.locator("figcaption").first
    assert caption.evaluate("one => one.getBoundingClientRect().bottom") <= 1010
    page.close()
