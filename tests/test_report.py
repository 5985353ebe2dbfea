"""The report matches the tables, escapes all names and loads nothing."""

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

from carbench.core.tables import read_table, write_json, write_table
from carbench.params.report import ReportParams
from carbench.report.html.jinja import THEME
from carbench.report.inline_svg import DARK
from carbench.report.page import render_report
from carbench.report.plotting.colours import contrast
from carbench.report.sections import SECTIONS
from carbench.report.study_results import ResultPaths
from carbench.report.tables.result_tables import read_summary
from costs import HARDWARE, write_costs
from test_figures import CLASSES, ODD, TABLES, draw, write_tables

ROOT = Path(__file__).parents[1]
PARAMS = ReportParams(
    title=ODD, duplicate_pairs=4, mistakes=4, label_errors=4, price_per_core_hour=0.0
)


class Page(HTMLParser):
    """Parses a page: its tags, links, text, numbers and downloads."""

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


RESIDUAL = {
    **{"files": 10, "without_candidate": 0, "doubtful": 1, "doubtful_waiting": 0, "rest": 9},
    **{"sample": 0, "confirmed": 1, "different": 2, "missed": None, "examples": []},
}


def study(folder: Path, leak: bool = True, folds: int = 0, **tables: Any) -> Path:
    """Write everything that the report reads, for twelve images, all in the test set."""
    write_tables(folder, leak=leak, **tables)
    images = [f"{'test/' if leak else ''}{label}/{n}.png" for label in CLASSES for n in range(4)]
    rows = []
    for n, image in enumerate(images):
        save_image(folder / "data/images" / image, n)
        label = CLASSES[n // 4]
        # Images 2 and 3 of each class are one image; the last of all is leaked.
        group, leaked = n - (n % 4 == 3), int(leak and n == len(images) - 1)
        part = f"fold-{n % folds}" if folds else "test"
        row = {"image": image, "class": label, "group": group, "leaked": leaked, "split": part}
        rows.append(row)
    manifest = [{"image": row["image"], "published": "test" if leak else ""} for row in rows]
    write_table(folder / "data/manifest.csv", ["image", "published"], manifest)
    write_table(folder / "split.csv", list(rows[0]), rows)
    counts = {"test_images": 4, "exact": 1, "near_or_exact": 2 if leak else 0}
    audit = {
        "cut": [],
        **{"images": 12, "unique": 11, "groups": 9, "exact_duplicates": 1, "near_pairs": 2},
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
    save_image(folder / "audit/groups.jpg", 0)
    doubt = {"image": images[0], "twin": images[5], "agreement": 0.91, "mirrored": True}
    write_json(folder / "residual.json", RESIDUAL | {"doubtful_waiting": 1, "examples": [doubt]})
    for n, row in enumerate(read_table(folder / "mistakes.csv")):
        save_image(folder / "data/images" / row["image"], n)
    (folder / "screen/all").mkdir(parents=True)
    statuses = ["screened"] * 20 + [f"licence {ODD}, not in screen.limits.licenses"] * 2
    write_table(
        folder / "screen/all/candidates.csv", ["status"], [{"status": each} for each in statuses]
    )
    write_table(folder / "screen/all/cost.csv", ["seconds"], [{"seconds": 12.0}] * 22)
    names = [each.backbone for each in read_summary(folder / "summary.csv")]
    write_costs(folder / "cost", dict.fromkeys(names, range(2, 8)))
    for backbone in read_summary(folder / "summary.csv"):
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


def save_image(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (20 * shade, 90, 90)).save(path)


def change(table: Path, **values: Any) -> None:
    """Set columns to the same value in every row of a table."""
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


def page_of(folder: Path, figures: Path, params: ReportParams = PARAMS) -> str:
    sources = ResultPaths(
        data=folder / "data",
        audit=folder / "audit",
        split=folder / "split.csv",
        residual=folder / "residual.json",
        train=folder / "train",
        choice=folder / "choice.csv",
        evaluate=folder / "evaluate",
        cost=folder / "cost",
        tables=folder,
        screen=folder / "screen",
        shortlist=folder / "shortlist",
        figures=figures,
        learning_curve=folder / "learning_curve",
    )
    return render_report(sources, params)


def text_of(folder: Path, figures: Path) -> str:
    return " ".join(Page(page_of(folder, figures)).text.split())


@pytest.mark.slow
def test_the_script_writes_the_same_page_twice(figures, tmp_path):
    folder = study(tmp_path)
    pages = []
    for name in ("one.html", "two.html"):
        command = [sys.executable, ROOT / "scripts/report.py"]
        command += ["--params", ROOT / "presets/sample.yaml"]
        for option in ("data", "audit", "train", "evaluate", "cost", "screen", "shortlist"):
            command += [f"--{option}", folder / option]
        command += [
            "--learning-curve",
            folder / "learning_curve",
            "--figures",
            figures,
            "--choice",
            folder / "choice.csv",
        ]
        command += ["--split", folder / "split.csv", "--tables", folder]
        command += ["--residual", folder / "residual.json"]
        subprocess.run([*command, "--output", folder / name], check=True)
        pages.append((folder / name).read_text(encoding="utf-8"))
    assert pages[0] == pages[1]
    text = " ".join(Page(pages[0]).text.split())
    assert "Deploy alpha : it classifies 80.0 % of new images correctly" in text
    assert "(95 % interval 77.0 to 82.5 % )" in text
    assert "on 100 clean test images" in text
    assert "4.00 ms model only, ONNX Runtime 1.2, CPU, 1 thread, Abacus;" in text


def test_numbers_match_the_tables(figures, tmp_path):
    """Each number names its table, row and column, has that value, and is shown rounded."""
    folder = study(tmp_path)
    page = Page(page_of(folder, figures))
    keys = {
        "recall": ("backbone", "class"),
        "comparisons": ("backbone", "other"),
        "robustness": ("backbone", "corruption"),
        "slices": ("backbone", "slice", "value"),
        "mistakes": ("image",),
        "label_errors": ("image",),
        "sets": ("backbone", "class"),
        "shortlist": ("model",),
        "measured": ("backbone", "runtime", "threads", "images", "decoding"),
        "learning_curve": ("backbone", "fraction"),
        "extrapolation": ("backbone",),
        "variance_parts": ("backbone", "part"),
    }
    found = set()
    for given, shown in page.numbers:
        name, column = given["data-table"], given["data-column"]
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
            "clean_as",
            "gain",
            "deviation",
        )
        plain = column.startswith(("nll", "set_size"))
        unit = 0.01 if any(part in column for part in parts) and not plain else 1
        unit = scale.get(number[-1], unit)
        digits = len(number[0].partition(".")[2])
        assert abs(float(number[0]) * unit - value) <= 0.501 * 10**-digits * unit, (given, shown)
        found.add((name, column))
    for column in ("accuracy", "accuracy_low", "leak_gap_high", "ece_calibrated", "macs"):
        assert ("summary", column) in found
    assert {name for name, _ in found} == {"summary", "choice", "decisions", *keys}


def test_selective_prediction_is_reported(figures, tmp_path):
    for name in ("sure", "never", "off"):
        (tmp_path / name).mkdir()
    text = text_of(study(tmp_path / "sure"), figures)
    assert (
        "Answering only above a confidence of 0.65 to 0.75 (each training run has its own" in text
    )
    assert "answers 70.0 % of the clean test images ( 67.0 to 72.5 )" in text
    assert (
        "is wrong on 8.0 % of those ( 5.0 to 10.5 ); answering all of them, it is wrong on 20.0 %"
        in text
    )
    assert "coverage of 95 % , the sets of alpha contain the true class for 96.0 %" in text
    never = study(tmp_path / "never")
    empty = dict.fromkeys(("error", "error_low", "error_high"), "")
    change(never / "decisions.csv", thresholds="1 1", answered=0, **empty)
    text = text_of(never, figures)
    assert "alpha always abstains" in text
    assert "Answering only" not in text
    off = study(tmp_path / "off")
    names = ("max_error", "guaranteed", "thresholds", "answered", "answered_low", "answered_high")
    names += ("set_coverage", "covered", "covered_low", "covered_high", "set_size", "set_size_low")
    change(off / "decisions.csv", **empty | dict.fromkeys((*names, "set_size_high", "single"), ""))
    (off / "sets.csv").write_text("backbone,class,images,covered,low,high,set_size\n")
    text = text_of(off, figures)
    assert "alpha answers every image" in text
    assert "Coverage of the sets" not in text


def test_probable_label_errors_are_shown_once_per_group(figures, tmp_path):
    text = text_of(study(tmp_path), figures)
    assert (
        "3 of the validation and clean test images have a label that is confidently contradicted"
        in text
    )
    assert text.count("probably $1 $2") == 2


def test_screening_is_reported_if_there_was_one(figures, tmp_path):
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    text = text_of(study(tmp_path / "with"), figures)
    assert "20 candidates were compared" in text
    assert "put 3 of them on the shortlist" in text
    assert "in 4.40 minutes" in text
    assert "2 more candidates were not screened" in text
    text = text_of(study(tmp_path / "without", candidates=0), figures)
    assert "candidates" not in text


def test_the_gain_from_more_images_is_reported_if_there_is_a_learning_curve(figures, tmp_path):
    for name in ("with", "few", "without"):
        (tmp_path / name).mkdir()
    text = text_of(study(tmp_path / "with"), figures)
    assert (
        "Twice as many training images would change the accuracy of alpha by about +3.5 points"
        in text
    )
    assert "( +0.5 to +6.0 ), if the curve continues as it has so far." in text
    folder = study(tmp_path / "few")
    change(folder / "learning_curve/extrapolation.csv", reason="it needs 3 fractions")
    text = text_of(folder, figures)
    assert "This cannot be estimated: it needs 3 fractions." in text
    assert "more training images" not in text_of(study(tmp_path / "without", curve=False), figures)


def test_variance_components_are_reported(figures, tmp_path):
    folder = study(tmp_path)
    assert "Another split: 5.0 points ( 2.0 – 7.5 ; 3 degrees of freedom)" in text_of(
        folder, figures
    )
    rows = read_table(folder / "split.csv")
    for row in rows:
        row["split_1"] = "train"
    write_table(folder / "split.csv", list(rows[0]), rows)
    text = text_of(folder, figures)
    assert "The images were split 2 times" in text
    assert (
        "An image that is used for testing in one split may be used for selection in another"
        in text
    )


def test_tables_can_be_downloaded_unchanged(figures, tmp_path):
    folder = study(tmp_path)
    offered = Page(page_of(folder, figures)).downloads
    assert {"summary.csv", "choice.csv", "comparisons.csv", "recall.csv"} <= set(offered)
    for name, link in offered.items():
        kind, _, content = link.partition(",")
        assert kind == "data:text/csv;charset=utf-8;base64"
        assert base64.b64decode(content) == next(folder.rglob(name)).read_bytes()


def test_the_content_security_policy_allows_only_the_script_of_the_page(figures, tmp_path):
    html = page_of(study(tmp_path), figures)
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digests = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    ]
    assert html.count("<script") == 1
    assert re.findall(r"script-src ([^;\"]*)", html) == [f"'sha256-{digests[0]}'"]


def test_ties_on_test_are_reported(figures, tmp_path):
    """Beta is tied with alpha; gamma is first worse, then better."""
    folder = study(tmp_path)
    text = text_of(folder, figures)
    assert "beta is not significantly different from alpha ( tied )" in text
    assert "gamma is significantly worse. Significance is corrected" in text
    assert (
        "Detectable difference 3.1 points from beta, in 80 of 100 such studies; 2.3 points in 50"
        in text
    )
    assert "beta alone, alpha is the better of the two with a probability of 70 %" in text
    change(folder / "comparisons.csv", difference=-0.02)
    assert "gamma is significantly better" in text_of(folder, figures)
    change(folder / "summary.csv", tied=1)
    assert "beta and gamma are not significantly different from alpha" in text_of(folder, figures)


def test_the_choice_is_reported_with_its_rule(figures, tmp_path):
    folder = study(tmp_path)
    text = text_of(folder, figures)
    assert "Of 3 backbones , alpha was the best on the" in text
    assert "On the validation set alone, beta is not significantly different from alpha" in text
    rows = read_table(folder / "choice.csv")
    rows[0]["backbone"], rows[1]["backbone"] = "beta", "alpha"
    rows[0]["chosen"], rows[1]["chosen"] = "0", "1"
    rows[0]["cost"] = "9"
    write_table(folder / "choice.csv", list(rows[0]), rows)
    text = text_of(folder, figures)
    assert "beta was the best of 3 backbones" in text
    assert "alpha, with 2.00 multiply-adds per image instead of 9.00 ." in text
    assert "with a probability of 40 % it is larger than the rule allows" in text


def test_the_headline_states_class_mix_and_training_run(figures, tmp_path):
    for name in ("two", "one"):
        (tmp_path / name).mkdir()
    text = text_of(study(tmp_path / "two"), figures)
    assert "This is the mean of its 2 training runs. The run that is deployed, seed 0" in text
    assert "its own accuracy on the clean test images is 79.6 %" in text
    assert "The accuracy assumes an equal mix of all classes." in text
    assert "In simulated studies with 2 seeds, 95 % intervals contained the true value in 9" in text
    alone = text_of(study(tmp_path / "one", seeds=1), figures)
    assert "mean of its" not in alone


def test_the_cause_of_a_wide_interval_is_stated(figures, tmp_path):
    folder = study(tmp_path)
    change(folder / "recall.csv", low=0.2)
    assert "few images" in text_of(folder, figures)
    change(folder / "recall.csv", training_part=0.8)
    assert "few training runs" in text_of(folder, figures)


def test_costs_state_runtime_and_price(figures, tmp_path):
    folder = study(tmp_path)
    text = text_of(folder, figures)
    assert "served, ONNX Runtime 1.2, CPU, 1 thread, on Abacus (2 cores), 2026-01-01" in text
    assert "from a JPEG file of 40 × 30 pixels" in text
    assert "ONNX Runtime, 2 threads" in text
    assert "Price" not in text
    params = PARAMS.model_copy(update={"price_per_core_hour": 0.5})
    paid = page_of(folder, figures, params)
    # 7.2 ms are 2 core-hours a million, of which each costs a half.
    assert re.search(r"2\.00</data>.*?\n.*?1\.00</data>", paid)
    assert "Price per million images" in Page(paid).text


def test_latencies_that_cannot_be_distinguished_are_reported(figures, tmp_path):
    folder = study(tmp_path)
    rows = read_table(folder / "choice.csv")
    rows[0] |= {"backbone": "beta", "chosen": "0", "cost_tied": "0", "cost": "9"}
    rows[1] |= {"backbone": "alpha", "chosen": "1", "cost_tied": "1"}
    rows[2] |= {"eligible": "1", "cost_tied": "1"}
    rows = [row | {"cost_by": "latency_ms"} for row in rows]
    write_table(folder / "choice.csv", list(rows[0]), rows)
    text = text_of(folder, figures)
    assert "with 2.00 milliseconds per image in ONNX Runtime instead of 9.00" in text
    assert "cannot distinguish its latency from that of gamma, which was ranked lower" in text


@pytest.mark.parametrize(("low", "advice"), [(0.34, "Deploy alpha"), (0.33, "Do not deploy any")])
def test_a_winner_must_beat_a_constant_prediction(low, advice, figures, tmp_path):
    # Each class is 4 of 12 clean images: 33.3 %.
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


def test_every_section_is_in_the_contents_and_every_term_is_linked(figures, tmp_path):
    html = page_of(study(tmp_path), figures)
    ids = set(re.findall(r'\bid="([^"]+)"', html))
    assert html.count('aria-label="Contents"') == 2  # a bar on a phone, a side where there is room
    for section in SECTIONS:
        assert html.count(f'<li><a href="#{section.name}">') == 2
        assert section.name in ids
    words = {name for name in ids if name.startswith("term-")}
    assert {"term-clean", "term-leaked", "term-seed", "term-tied", "term-interval"} <= words
    used = {link.removeprefix("#") for link in Page(html).loads if link.startswith("#term-")}
    assert words == used


def test_figures_and_tables_are_those_that_the_sections_list(figures, tmp_path):
    page = Page(page_of(study(tmp_path), figures))
    assert {each for section in SECTIONS for each in section.figures} == set(TABLES) - {"mistakes"}
    offered = {f"{each}.csv" for section in SECTIONS for each in section.tables}
    assert offered == set(page.downloads)


def test_every_colour_of_a_figure_has_a_dark_counterpart(figures, tmp_path):
    html = page_of(study(tmp_path), figures)
    body = html[html.index("<body>") :]
    assert not re.search(r"(?:fill|stroke): #", body)
    used = set(re.findall(r"var\(--c-([0-9a-f]{6}), #\1\)", body))
    dark = dict(re.findall(r"--c-([0-9a-f]{6}): (#[0-9a-f]{6});", html))
    assert used and used == set(dark)
    paper = re.findall(r"--page: (#[0-9a-f]{6})", THEME.read_text(encoding="utf-8"))[1]
    assert paper == DARK
    assert all(contrast(colour, paper) >= 4.5 for colour in dark.values())


def test_audit_findings_are_reported(figures, tmp_path):
    text = text_of(study(tmp_path), figures)
    assert "Of the 4 published test images, 2 (50 %) have a duplicate" in text
    assert "would have reached 87.0 % ; on the clean ones, reweighted to the same class mix" in text
    assert "it reaches 80.0 % : a leak gap of +7.0 points ( +4.0 to +9.5 )" in text
    assert "1 file in quarantine" in text and "empty file" in text
    assert "Duplicates with different labels" in text
    assert "for which the audit finds no duplicate" in text
    assert "Not reviewed: 1 doubtful pair" in text and "agreement 0.91" in text
    assert "1 duplicate that the audit had missed, 2 pairs of different images" in text


def test_missed_duplicates_are_estimated_from_the_review(figures, tmp_path):
    folder = study(tmp_path)
    write_json(folder / "residual.json", RESIDUAL)
    assert "no sample of the other 9 pairs was reviewed" in text_of(folder, figures)
    missed = {"expected": 0.0, "low": 0, "high": 2, "confidence": 0.95}
    write_json(folder / "residual.json", RESIDUAL | {"sample": 5, "missed": missed})
    text = text_of(folder, figures)
    assert "a random sample of 5 of the other 9" in text
    assert "Of the 4 that nobody has reviewed, 0 to 2 may still be duplicates" in text
    assert "Not reviewed" not in text


def test_the_method_that_explained_the_mistakes_is_stated(figures, tmp_path):
    text = text_of(study(tmp_path), figures)
    assert "what contributed to the wrong prediction (tea leaves)" in text
    assert "with 90 % confidence, wrong in 2 of 2 training runs" in text.replace(" ,", ",")


def test_leak_and_comparisons_are_omitted_if_there_are_none(figures, tmp_path):
    folder = study(tmp_path, backbones=1, seeds=1, leak=False, corruptions=False, mistakes=0)
    change(folder / "summary.csv", training_noise=0)
    write_json(folder / "metrics.json", {"detectable": None})
    text = text_of(folder, figures)
    assert "the only backbone of the study" in text
    assert "trained only once" in text
    assert "No corruptions were tested" in text
    words = ("Leakage in", "Leak gap", "Comparison on the test set", "quarantine", "None", "nan ")
    for word in (*words, "Most confident errors", "Detectable difference"):
        assert word not in text, word


def test_folds_are_reported(figures, tmp_path):
    text = text_of(study(tmp_path, leak=False, folds=3), figures)
    assert "divided into 3 folds by duplicate group" in text
    assert "Fold 0 Fold 1 Fold 2" in text
    assert "Clean test images" in text and "Validation Clean test" not in text


def test_the_report_loads_neither_torch_nor_pandas():
    program = "import sys, runpy; runpy.run_path('scripts/report.py'); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"torch", "pandas", "scipy", "matplotlib"} & set(done.stdout.split())
