"""The report: says the answer, shows what it rests on, trusts no name, loads nothing."""

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from carbench.figures.summary import read_summary
from carbench.params.report import ReportParams
from carbench.report.evidence import gather
from carbench.report.page import render, source_hash
from carbench.tables import read_json, read_table, write_json, write_table
from test_figures import CLASSES, ODD, TABLES, draw, write_tables

ROOT = Path(__file__).parents[1]
PARAMS = ReportParams(title=ODD, duplicate_pairs=4, mistakes=4)
HARDWARE = {"processor": "Abacus", "cores": 2, "memory_gb": 1.0, "gpus": [], "system": "Linux"}


class Page(HTMLParser):
    """The tags of a page, what it would load, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        names = ("src", "href", "xlink:href", "srcset", "data", "action")
        self.loads += [value for name, value in attrs if name in names]

    def handle_data(self, data):
        self.text += " ".join(data.split()) + " "


def study(folder: Path, backbones: int = 3, seeds: int = 2, leak: bool = True) -> Path:
    """Write everything that the report reads: twelve pictures, all of them in the test part."""
    write_tables(folder, backbones, seeds, leak)
    images = [f"{'test/' if leak else ''}{label}/{n}.png" for label in CLASSES for n in range(4)]
    rows = []
    for n, image in enumerate(images):
        path = folder / "data/images" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (20 * n, 90, 90)).save(path)
        label = CLASSES[n // 4]
        # Pictures 2 and 3 of each class are one picture; the last of all is leaked.
        group, leaked = n - (n % 4 == 3), int(leak and n == len(images) - 1)
        rows.append({"image": image, "class": label, "group": group, "leaked": leaked})
    manifest = [{"image": row["image"], "published": "test" if leak else ""} for row in rows]
    write_table(folder / "data/manifest.csv", ["image", "published"], manifest)
    write_table(
        folder / "split.csv", [*rows[0], "split"], [row | {"split": "test"} for row in rows]
    )
    counts = {"test_pictures": 4, "exact": 1, "near_or_exact": 2 if leak else 0}
    audit = {
        **{"pictures": 12, "unique": 11, "groups": 9, "exact_duplicates": 1, "near_pairs": 2},
        "largest_group": 2,
        "classes": dict.fromkeys(CLASSES, 4),
        "leak": (counts if leak else dict.fromkeys(counts, 0))
        | {"by_class": {ODD: counts} if leak else {}},
        "conflicts": [{"group": 1, "classes": CLASSES[:2], "images": images[3:5]}] if leak else [],
        "misnamed": [{"image": images[0], "format": "PNG", "mode": "P"}] if leak else [],
        "quarantined": [{"file": f"{ODD}.jpg", "reason": "empty file"}] if leak else [],
        "examples": [{"first": images[2], "second": images[3], "kind": "identical bytes"}],
    }
    audit |= read_json(folder / "audit/audit.json") | {"leak": audit["leak"], "cut": []}
    write_json(folder / "audit/audit.json", audit)
    (folder / "cost").mkdir()
    for backbone in read_summary(folder / "summary.csv"):
        cost = {"latency_ms": {"p10": 1.0, "p90": 5.0}, "image_size": 48, "batch_size": 32}
        cost |= {"device": "cpu", "threads": 1, "hardware": HARDWARE}
        write_json(folder / f"cost/{backbone.backbone}.json", cost)
        for seed in backbone.seeds:
            run = f"{backbone.backbone}/{seed}"
            record = {"params": {"lr": 0.1, "device": "cpu"}, "inputs": {"a.csv": "ab12"}}
            record |= {"code": "cd34", "git": {"commit": None, "dirty": None}, "seconds": 3.0}
            record |= {"versions": {"python": "3"}, "hardware": HARDWARE, "started": "2026-01-01"}
            (folder / "train" / run).mkdir(parents=True)
            write_json(folder / "train" / run / "provenance.json", record)
            (folder / "evaluate" / run).mkdir(parents=True)
            write_json(folder / "evaluate" / run / "metrics.json", {"explained_by": "gradients"})
    Image.new("RGB", (40, 30)).save(folder / "audit/groups.jpg")
    # What aggregate says of mistakes, of pictures that are there.
    wrong = [
        row | {"image": image}
        for row, image in zip(read_table(folder / "mistakes.csv"), images, strict=False)
    ]
    write_table(folder / "mistakes.csv", list(wrong[0]), wrong)
    return folder


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> Path:
    """Return a folder with all figures."""
    folder = tmp_path_factory.mktemp("figures")
    write_tables(folder)
    for figure in TABLES:
        draw(figure, folder, folder)
    return folder


def evidence_of(folder: Path):
    return gather(
        data=folder / "data",
        audit=folder / "audit",
        split=folder / "split.csv",
        train=folder / "train",
        choice=folder / "choice.csv",
        evaluate=folder / "evaluate",
        cost=folder / "cost",
        tables=folder,
    )


def page_of(folder: Path, figures: Path) -> str:
    sheet = folder / "audit/groups.jpg"
    return render(evidence_of(folder), folder / "data/images", sheet, figures, PARAMS)


def text_of(folder: Path, figures: Path) -> str:
    return Page(page_of(folder, figures)).text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_script_writes_the_same_answer_twice(figures, tmp_path):
    folder = study(tmp_path)
    pages = []
    for name in ("one.html", "two.html"):
        command = [sys.executable, ROOT / "scripts/report.py", "--params", ROOT / "params.yaml"]
        for option in ("data", "audit", "train", "evaluate", "cost"):
            command += [f"--{option}", folder / option]
        command += ["--figures", figures]
        command += ["--split", folder / "split.csv", "--tables", folder]
        command += ["--choice", folder / "choice.csv"]
        subprocess.run([*command, "--output", folder / name], check=True)
        pages.append((folder / name).read_text(encoding="utf-8"))
    assert pages[0] == pages[1]
    text = Page(pages[0]).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Deploy alpha : it names 80.0 % of new pictures correctly" in text
    assert "between 77.0 and 82.5 %" in text
    assert "100 clean test pictures" in text
    assert "79.5–80.5 % over 2 trainings" in text
    assert "4.00 ms Abacus (2 cores), 1 thread" in text


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.002, 0.02, "No other backbone is tied with it on this test set , after correction"),
        (-0.002, 0.02, "Tied with it on this test set: beta"),
        (-0.02, -0.002, "beta was better on the test pictures; to choose by them would be"),
    ],
)
def test_rivals_are_judged_by_the_corrected_interval(low, high, verdict, figures, tmp_path):
    folder = study(tmp_path, backbones=2, seeds=1)
    row = read_table(folder / "comparisons.csv")[0] | {"difference": (low + high) / 2}
    row |= {"difference_low": low, "difference_high": high, "significant": int(low * high > 0)}
    write_table(folder / "comparisons.csv", list(row), [row])
    text = text_of(folder, figures)
    assert verdict in text
    assert ("Tied with it" in text) == (low < 0 < high)
    assert ("was better" in text) == (high < 0)
    assert "beta is worse by more than chance" in text or low < 0


def test_a_cheaper_choice_is_explained(figures, tmp_path):
    folder = study(tmp_path)
    rows = read_table(folder / "choice.csv")
    order = [rows[1] | {"chosen": 0, "cost": 9}, rows[0] | {"val_accuracy": 0.835}, rows[2]]
    write_table(folder / "choice.csv", list(rows[0]), order)
    text = text_of(folder, figures)
    assert "alpha came within" in text and "of the best, beta" in text
    assert "costs less: 1.00 multiply-adds instead of 9.00" in text


def test_the_pages_numbers_are_the_tables(figures, tmp_path):
    """Read back from the page: the comparison table, and the files that it offers."""
    folder = study(tmp_path)
    html = page_of(folder, figures)
    rows = {row["backbone"]: row for row in read_table(folder / "summary.csv")}
    body = re.findall(r'<tr data-backbone="(.*?)".*?</tr>', html, re.S)
    assert body == list(rows)
    cells = 0
    for backbone, row in re.findall(r'<tr data-backbone="(.*?)"(.*?)</tr>', html, re.S):
        for key, value, shown in re.findall(
            r'data-key="(\w+)" data-value="(.*?)">(.*?)</td>', row, re.S
        ):
            assert float(value) == float(rows[backbone][key])
            if key in ("accuracy", "val_accuracy", "macro_f1"):
                assert shown.split("\N{NO-BREAK SPACE}")[0] == f"{100 * float(value):.1f}"
            cells += 1
    assert cells >= 8 * len(rows)
    files = re.findall(r'download="(.*?)" href="data:text/csv;base64,(.*?)"', html)
    assert {"summary.csv", "choice.csv", "comparisons.csv"} <= {name for name, _ in files}
    for name, content in files:
        assert base64.b64decode(content) == (folder / name).read_bytes()
    chosen = next(iter(rows.values()))
    headline = set(map(float, re.findall(r'<data value="(.*?)">', html)))
    for key in ("accuracy", "accuracy_low", "accuracy_high", "val_accuracy", "leak_gap"):
        assert float(chosen[key]) in headline
    assert read_json(folder / "metrics.json")["smallest_detectable_difference"] in headline


@pytest.mark.parametrize(("low", "advice"), [(0.34, "Deploy alpha"), (0.33, "Deploy none")])
def test_a_winner_must_beat_a_constant_answer(low, advice, figures, tmp_path):
    # The commonest class is 4 of the 12 clean pictures: 33.3 %.
    folder = study(tmp_path)
    rows = read_table(folder / "summary.csv")
    write_table(
        folder / "summary.csv", list(rows[0]), [row | {"accuracy_low": low} for row in rows]
    )
    assert advice in text_of(folder, figures)


def test_names_are_escaped_and_nothing_is_loaded(figures, tmp_path):
    html = page_of(study(tmp_path), figures)
    page = Page(html)
    assert ODD in page.text
    # <b> is a tag of the page's own; an unescaped name would leave `&"x` behind it.
    assert '<b>&"x' not in html and '<b>&amp;"x' not in html
    # The one script is the page's own, and the policy lets no other run.
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.S)
    assert html.count("<script") == 1
    assert f"script-src '{source_hash(script)}'" in html
    assert page.loads
    kinds = ("data:image/jpeg;base64,", "data:image/png;base64,", "data:text/csv;base64,", "#")
    assert all(load.startswith(kinds) for load in page.loads)
    assert not re.search(r"url\((?!#)|@import", html)


def test_every_reference_inside_the_page_has_one_target(figures, tmp_path):
    html = page_of(study(tmp_path), figures)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:href="|url\()#([^")]+)', html)
    assert references and set(references) <= set(ids)


def test_audit_findings_are_told(figures, tmp_path):
    text = text_of(study(tmp_path), figures)
    assert "Of the 4 published test pictures 2 (50 %) have a twin" in text
    assert "would have claimed 87.0 %, +7.0 points" in text
    assert "1 file in quarantine" in text and "empty file" in text
    assert "labelled differently" in text


def test_without_leak_or_rivals_nothing_is_said_of_them(figures, tmp_path):
    text = text_of(study(tmp_path, backbones=1, seeds=1, leak=False), figures)
    assert "only backbone of this study" in text
    assert "trained once only" in text
    for word in ("test set leaks", "Leak gap", "Tied with", "quarantine", "None", "nan "):
        assert word not in text, word
