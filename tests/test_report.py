"""The report: says the answer, shows what it rests on, trusts no name, loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from carbench.figures.summary import read_summary
from carbench.params.report import ReportParams
from carbench.report.evidence import gather
from carbench.report.page import render
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
        self.numbers: list[tuple[dict[str, str], str]] = []
        self.downloads: dict[str, str] = {}
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        names = ("src", "href", "xlink:href", "srcset", "data", "action")
        self.loads += [value for name, value in attrs if name in names]
        given = dict(attrs)
        if tag == "data" and "data-table" in given:
            self.numbers.append((given, ""))
        if "download" in given:
            self.downloads[given["download"]] = given["href"]

    def handle_data(self, data):
        self.text += " ".join(data.split()) + " "
        if self.lasttag == "data" and self.numbers and not self.numbers[-1][1]:
            self.numbers[-1] = (self.numbers[-1][0], data)


def study(folder: Path, leak: bool = True, folds: int = 0, **tables: Any) -> Path:
    """Write everything that the report reads: twelve pictures, all of them in the test part."""
    write_tables(folder, leak=leak, **tables)
    images = [f"{'test/' if leak else ''}{label}/{n}.png" for label in CLASSES for n in range(4)]
    rows = []
    for n, image in enumerate(images):
        save_picture(folder / "data/images" / image, n)
        label = CLASSES[n // 4]
        # Pictures 2 and 3 of each class are one picture; the last of all is leaked.
        group, leaked = n - (n % 4 == 3), int(leak and n == len(images) - 1)
        part = f"fold-{n % folds}" if folds else "test"
        row = {"image": image, "class": label, "group": group, "leaked": leaked, "split": part}
        rows.append(row)
    manifest = [{"image": row["image"], "published": "test" if leak else ""} for row in rows]
    write_table(folder / "data/manifest.csv", ["image", "published"], manifest)
    write_table(folder / "split.csv", list(rows[0]), rows)
    counts = {"test_pictures": 4, "exact": 1, "near_or_exact": 2 if leak else 0}
    audit = {
        "cut": [],
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
    write_json(folder / "audit/audit.json", audit)
    save_picture(folder / "audit/groups.jpg", 0)
    for n, row in enumerate(read_table(folder / "mistakes.csv")):
        save_picture(folder / "data/images" / row["image"], n)
    (folder / "screen/all").mkdir(parents=True)
    statuses = ["screened"] * 20 + [f"licence {ODD}, not in screen.limits.licenses"] * 2
    write_table(
        folder / "screen/all/candidates.csv", ["status"], [{"status": each} for each in statuses]
    )
    write_table(folder / "screen/all/cost.csv", ["seconds"], [{"seconds": 12.0}] * 22)
    (folder / "cost").mkdir()
    for backbone in read_summary(folder / "summary.csv"):
        cost = {"latency_ms": {"p10": 1.0, "p90": 5.0}, "image_size": 48, "batch_size": 32}
        cost |= {"device": "cpu", "threads": 1, "hardware": HARDWARE}
        write_json(folder / f"cost/{backbone.backbone}.json", cost)
        for seed in backbone.seeds:
            record = {"params": {"lr": 0.1, "device": "cpu"}, "inputs": {"a.csv": "ab12"}}
            record |= {"code": "cd34", "git": {"commit": None, "dirty": None}, "seconds": 3.0}
            record |= {"versions": {"python": "3"}, "hardware": HARDWARE, "started": "2026-01-01"}
            run = folder / f"train/{backbone.backbone}/{seed}"
            run.mkdir(parents=True)
            write_json(run / "provenance.json", record)
            run = folder / f"evaluate/{backbone.backbone}/{seed}"
            run.mkdir(parents=True)
            write_json(run / "metrics.json", {"explained_by": "tea leaves"})
    return folder


def save_picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (20 * shade, 90, 90)).save(path)


def change(table: Path, **values: Any) -> None:
    """Give every row of a table other values in some columns."""
    rows = read_table(table)
    write_table(table, list(rows[0]), [row | values for row in rows])


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
        screen=folder / "screen",
        shortlist=folder / "shortlist",
    )


def page_of(folder: Path, figures: Path) -> str:
    images, sheet = folder / "data/images", folder / "audit/groups.jpg"
    return render(evidence_of(folder), images, sheet, figures, PARAMS)


def text_of(folder: Path, figures: Path) -> str:
    return Page(page_of(folder, figures)).text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_script_writes_the_same_answer_twice(figures, tmp_path):
    folder = study(tmp_path)
    pages = []
    for name in ("one.html", "two.html"):
        command = [sys.executable, ROOT / "scripts/report.py"]
        command += ["--params", ROOT / "presets/sample.yaml"]
        for option in ("data", "audit", "train", "evaluate", "cost", "screen", "shortlist"):
            command += [f"--{option}", folder / option]
        command += ["--figures", figures, "--choice", folder / "choice.csv"]
        command += ["--split", folder / "split.csv", "--tables", folder]
        subprocess.run([*command, "--output", folder / name], check=True)
        pages.append((folder / name).read_text(encoding="utf-8"))
    assert pages[0] == pages[1]
    text = Page(pages[0]).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Deploy alpha : it names 80.0 % of new pictures correctly" in text
    assert "between 77.0 and 82.5 %" in text
    assert "on 100 clean test pictures" in text
    assert "4.00 ms Abacus (2 cores), 1 thread" in text


def test_numbers_are_those_of_the_tables(figures, tmp_path):
    """Each number says where it is from: it has that value, and is shown rounded."""
    folder = study(tmp_path)
    page = Page(page_of(folder, figures))
    keys = {
        "recall": ("backbone", "class"),
        "comparisons": ("backbone", "other"),
        "robustness": ("backbone", "corruption"),
        "slices": ("backbone", "slice", "value"),
        "mistakes": ("image",),
        "shortlist": ("model",),
    }
    found = set()
    for given, shown in page.numbers:
        name, column = given["data-table"], given["data-column"]
        if name == "metrics":
            value = read_json(folder / "metrics.json")[column]
        else:
            rows = {
                "\t".join(row[key] for key in keys.get(name, ("backbone",))): row
                for row in read_table(next(folder.rglob(f"{name}.csv")))
            }
            value = float(rows[given["data-row"]][column])
        assert float(given["value"]) == value
        number = shown.replace("−", "-").replace(",", "").split("\N{NO-BREAK SPACE}")
        scale = {"%": 0.01, "thousand": 1e3, "k": 1e3, "million": 1e6, "M": 1e6}
        parts = (
            "accuracy",
            "difference",
            "low",
            "high",
            "gap",
            "published",
            "detectable",
            "behind",
        )
        unit = 0.01 if any(part in column for part in parts) else 1
        unit = scale.get(number[-1], unit)
        digits = len(number[0].partition(".")[2])
        assert abs(float(number[0]) * unit - value) <= 0.501 * 10**-digits * unit, (given, shown)
        found.add((name, column))
    for column in ("accuracy", "accuracy_low", "leak_gap_high", "ece_calibrated", "macs"):
        assert ("summary", column) in found
    assert {name for name, _ in found} == {"summary", "choice", "metrics", *keys}


def test_screening_is_told_where_there_was_one(figures, tmp_path):
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    text = text_of(study(tmp_path / "with"), figures)
    assert "20 candidates took part" in text
    assert "put 3 of them on the shortlist" in text
    assert "in 4.40 minutes" in text
    assert "2 candidates more took no part" in text
    text = text_of(study(tmp_path / "without", candidates=0), figures)
    assert "candidates" not in text


def test_tables_are_offered_as_they_are(figures, tmp_path):
    folder = study(tmp_path)
    offered = Page(page_of(folder, figures)).downloads
    assert {"summary.csv", "choice.csv", "comparisons.csv", "recall.csv"} <= set(offered)
    for name, link in offered.items():
        kind, _, content = link.partition(",")
        assert kind == "data:text/csv;charset=utf-8;base64"
        assert base64.b64decode(content) == next(folder.rglob(name)).read_bytes()


def test_the_policy_allows_the_pages_own_script_and_no_other(figures, tmp_path):
    html = page_of(study(tmp_path), figures)
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digests = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    ]
    assert html.count("<script") == 1
    assert re.findall(r"script-src ([^;\"]*)", html) == [f"'sha256-{digests[0]}'"]


def test_ties_on_test_are_told(figures, tmp_path):
    """Of three, beta is tied and gamma is worse; then gamma is better."""
    folder = study(tmp_path)
    text = text_of(folder, figures)
    assert "cannot tell alpha from beta" in text
    assert "gamma is worse by more than chance. This is corrected" in text.replace(
        "gamma  is", "gamma is"
    )
    assert "Smallest visible difference 3.1 points" in text
    change(folder / "comparisons.csv", difference=-0.02)
    assert "gamma was better by more than chance" in text_of(folder, figures)
    change(folder / "summary.csv", tied=1)
    assert "cannot tell alpha from beta and gamma" in text_of(folder, figures)


def test_the_choice_is_told_with_its_rule(figures, tmp_path):
    folder = study(tmp_path)
    text = text_of(folder, figures)
    assert "Of 3 backbones alpha was the best on the" in text
    assert "Validation alone did not tell beta from alpha" in text
    rows = read_table(folder / "choice.csv")
    rows[0]["backbone"], rows[1]["backbone"] = "beta", "alpha"
    rows[0]["chosen"], rows[1]["chosen"] = "0", "1"
    rows[0]["cost"] = "9"
    write_table(folder / "choice.csv", list(rows[0]), rows)
    text = text_of(folder, figures)
    assert "beta came first" in text
    assert "the cheapest, with 2.00 multiply-adds against 9.00 : that was the rule" in text


@pytest.mark.parametrize(("low", "advice"), [(0.34, "Deploy alpha"), (0.33, "Deploy none")])
def test_a_winner_must_beat_a_constant_answer(low, advice, figures, tmp_path):
    # Each class is 4 of 12 clean pictures: 33.3 %.
    folder = study(tmp_path)
    change(folder / "summary.csv", accuracy_low=low)
    assert advice in text_of(folder, figures)


def test_names_are_escaped_and_nothing_is_loaded(figures, tmp_path):
    html = page_of(study(tmp_path), figures)
    page = Page(html)
    assert ODD in page.text
    # <b> is a tag of the page's own; an unescaped name would leave `&"x` behind it.
    assert '<b>&"x' not in html and '<b>&amp;"x' not in html
    assert page.loads
    inside = ("data:image/jpeg;base64,", "data:text/csv;", "#")
    assert all(load.startswith(inside) for load in page.loads)
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
    assert "would have claimed 87.0 % : +7.0 points ( +4.0 to +9.5 )" in text
    assert "1 file in quarantine" in text and "empty file" in text
    assert "labelled differently" in text


def test_mistakes_say_how_they_were_explained(figures, tmp_path):
    text = text_of(study(tmp_path), figures)
    assert "what spoke for the wrong answer (tea leaves)" in text
    assert "with 90 % confidence, wrong in 2 of 2 trainings" in text.replace(" ,", ",")


def test_without_leak_or_rivals_nothing_is_said_of_them(figures, tmp_path):
    folder = study(tmp_path, backbones=1, seeds=1, leak=False, corruptions=False, mistakes=0)
    change(folder / "summary.csv", training_noise=0)
    write_json(folder / "metrics.json", {"detectable": None})
    text = text_of(folder, figures)
    assert "only backbone of this study" in text
    assert "trained once only" in text
    assert "No corruptions were tried" in text
    words = ("test set leaks", "Leak gap", "Then tested", "quarantine", "None", "nan ")
    for word in (*words, "confident mistakes", "Smallest visible difference"):
        assert word not in text, word


def test_folds_are_told(figures, tmp_path):
    text = text_of(study(tmp_path, leak=False, folds=3), figures)
    assert "dealt into 3 folds by duplicate group" in text
    assert "Fold 0 Fold 1 Fold 2" in text
    assert "Clean test pictures" in text and "Validation Clean test" not in text


def test_the_report_loads_neither_torch_nor_pandas():
    program = "import sys, runpy; runpy.run_path('scripts/report.py'); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"torch", "pandas", "scipy", "matplotlib"} & set(done.stdout.split())
