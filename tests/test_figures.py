"""Figures: the same bytes always, each option at work, any name and any number of rows."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from carbench.errors import CarbenchError
from carbench.figures import accuracy, differences, pareto
from carbench.figures.explanations import overlay
from carbench.figures.style import Style, save
from carbench.figures.summary import read_summary
from carbench.params.base import read_section
from carbench.params.plot import PlotParams
from carbench.tables import write_json, write_table

ROOT = Path(__file__).parents[1]
DRAWINGS = runpy.run_path(str(ROOT / "scripts/plot.py"))["DRAWINGS"]
PLOT = read_section(ROOT / "presets/sample.yaml", "plot", PlotParams)
TABLES = {
    "accuracy": "summary.csv",
    "pareto": "summary.csv",
    "differences": "comparisons.csv",
    "confusion": "confusion.csv",
    "recall": "recall.csv",
    "curves": "curves.csv",
    "reliability": "reliability.csv",
    "leak": "summary.csv",
    "robustness": "robustness.csv",
    "classes": "audit/audit.json",
    "mistakes": "mistakes.csv",
    "screening": "shortlist/shortlist.csv",
}
ODD = '<b>&"x'
CLASSES = [ODD, "$1 $2", "Škoda"]
CORRUPTIONS = ["none", "blur", "jpeg", "dark", "crop", "mirror"]
MISTAKES = 5


def write_tables(
    folder: Path,
    backbones: int = 3,
    seeds: int = 2,
    leak: bool = True,
    corruptions: bool = True,
    mistakes: int = MISTAKES,
    candidates: int = 20,
) -> None:
    """Write what aggregate and shortlist would: the n-th backbone is n points worse than the first.

    The first is right in 80 %; differences of more than one point are significant.
    """
    names = ["alpha", "beta", "gamma", *(f"backbone-{n}" for n in range(3, backbones))][:backbones]
    tables: dict[str, list[dict[str, Any]]] = {}
    for n, name in enumerate(names):
        mean = 0.8 - n / 100
        tables.setdefault("summary", []).append(
            {
                "backbone": name,
                "model": f"model_{name}",
                "chosen": int(n == 0),
                "tied": int(n < 2),
                "seeds": " ".join(str(seed) for seed in range(seeds)),
                **around("val_accuracy", "val", mean + 0.05),
                **around("accuracy", "accuracy", mean),
                "confidence": 0.95,
                "training_noise": int(seeds > 1),
                "accuracy_by_seed": " ".join(
                    str(mean + (seed - (seeds - 1) / 2) / 100) for seed in range(seeds)
                ),
                **around("balanced_accuracy", "balanced_accuracy", 0.5),
                **around("macro_f1", "macro_f1", 0.5),
                **{"nll": 0.7, "nll_calibrated": 0.6, "ece": 0.1, "ece_calibrated": 0.05},
                "temperature": 1.3,
                "test_images": 100,
                "test_groups": 90,
                "leaked_images": 40 if leak else 0,
                **around("leaked_accuracy", "leaked", 0.95 if leak else ""),
                **around("published_accuracy", "published", mean + 0.07 if leak else ""),
                **around("leak_gap", "leak_gap", 0.07 if leak else ""),
                "parameters": 1_000_000 * (n + 1),
                "macs": 5_000_000 * (n + 1),
                "latency_ms": 4 - n % 3,
                **dict.fromkeys(("throughput", "peak_memory_mb"), 100),
                "device": "cpu",
            }
        )
        tables.setdefault("curves", []).extend(
            {
                **{"backbone": name, "seed": seed, "epoch": epoch, "lr": 0.1},
                **{"train_loss": 2 / epoch, "val_loss": 3 / epoch},
                **{"val_accuracy": (epoch + seed / 2) / 6, "chosen": int(epoch == 3)},
            }
            for seed in range(seeds)
            for epoch in (1, 2, 3)
        )
        tables.setdefault("confusion", []).extend(
            {"backbone": name, "class": true, "predicted": said, "count": 9 if true == said else 2}
            for true in CLASSES
            for said in CLASSES
        )
        tables.setdefault("recall", []).extend(
            {"backbone": name, "class": label, "images": 4, **around("recall", "", mean - m / 10)}
            for m, label in enumerate(CLASSES)
        )
        tables.setdefault("reliability", []).extend(
            {"backbone": name, "calibrated": calibrated, "bin": bin, "images": 10}
            | {"confidence": bin / 4, **around("accuracy", "", bin / (4 if calibrated else 5))}
            for calibrated in (0, 1)
            for bin in range(1, 4)
        )
        tables.setdefault("robustness", []).extend(
            {"backbone": name, "corruption": corruption, **around("accuracy", "", mean - m / 20)}
            | around("drop", "drop", m / 20)
            for m, corruption in enumerate(CORRUPTIONS if corruptions else [])
        )
        tables.setdefault("slices", []).extend(
            {"backbone": name, "slice": "size", "value": value, "images": 33}
            | around("accuracy", "", mean + m / 50)
            for m, value in enumerate(("small (< 9,000)", "medium", "large (> 20,000)"))
        )
        tables.setdefault("choice", []).append(
            {
                **{"backbone": name, "chosen": int(n == 0), "tied": int(n < 2)},
                **{"eligible": int(n < 2)},
                **around("val_accuracy", "val", mean + 0.05),
                **around("difference", "difference", n / 100),
                **{"p_adjusted": 0.5 if n < 2 else 0.01, "cost": 1 + n, "cost_by": "macs"},
            }
        )
        tables.setdefault("comparisons", []).extend(
            {"backbone": name, "other": other, **around("difference", "difference", (m - n) / 100)}
            | {"p_value": 0.2, "p_adjusted": 0.4, "significant": int(m - n > 1)}
            for m, other in enumerate(names)
            if m > n
        )
    tables["mistakes"] = [
        {"seed": m % seeds, "image": f"{ODD}/{m}.png", "class": ODD, "predicted": "$1 $2"}
        | {"confidence": 0.9 - m / 100, "seeds_wrong": seeds, "row": m}
        for m in range(mistakes)
    ]
    empty = {"mistakes": MISTAKE_COLUMNS, "comparisons": COMPARISON_COLUMNS}
    empty["robustness"] = ["backbone", "corruption", *around("accuracy", "", 0)]
    empty["robustness"] += around("drop", "drop", 0)
    for name, rows in tables.items():
        write_table(folder / f"{name}.csv", list(rows[0]) if rows else empty[name], rows)
    write_json(folder / "metrics.json", {"detectable": 0.031})
    (folder / "shortlist").mkdir(exist_ok=True)
    screened = [candidate(n) for n in range(candidates)]
    write_table(folder / "shortlist/shortlist.csv", list(candidate(0)), screened)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (mistakes, 8, 8, 3), np.uint8)
    np.savez(folder / "mistakes.npz", pictures=pictures, maps=pictures[..., 0])
    counts = {"test_pictures": 4, "exact": 1, "near_or_exact": 2}
    sizes = {
        label: {"pictures": 4 + n, "unique": 4, "groups": 3} for n, label in enumerate(CLASSES)
    }
    audit = {
        "by_class": sizes,
        "leak": {"by_class": dict.fromkeys(CLASSES, counts) if leak else {}},
    }
    (folder / "audit").mkdir(exist_ok=True)
    write_json(folder / "audit/audit.json", audit)


def candidate(n: int) -> dict[str, Any]:
    """The n-th best of the screened candidates; the first three are on the shortlist."""
    name = f"model_{('alpha', 'beta', 'gamma')[n]}" if n < 3 else f"candidate_{n}.of_many"
    return {
        **{"rank": n + 1, "model": name, "pool": "all", "family": "resnet", "license": "mit"},
        **{"start": "hub" if n % 2 == 0 else "random", "image_size": 48, "images": 300},
        **{"parameters": 1_000_000 + n, "macs": 90_000_000 // (n + 1)},
        **around("accuracy", "", 0.8 - n / 50),
        **around("behind", "behind", n / 50),
        **{"tied": int(n < 2), "eligible": int(n < 4), "shortlisted": int(n < 3)},
        **{"neighbour_accuracy": 0.6, "confidence": 0.95},
    }


MISTAKE_COLUMNS = ["seed", "image", "class", "predicted", "confidence", "seeds_wrong", "row"]
COMPARISON_COLUMNS = ["backbone", "other", "difference", "difference_low", "difference_high"]
COMPARISON_COLUMNS += ["p_value", "p_adjusted", "significant"]


def around(name: str, prefix: str, value: Any) -> dict[str, Any]:
    """A value and its interval, as three columns; all empty if it is."""
    low, high = (f"{prefix}_low", f"{prefix}_high") if prefix else ("low", "high")
    if value == "":
        return dict.fromkeys((name, low, high), "")
    return {name: value, low: value - 0.03, high: value + 0.025}


def draw(figure: str, tables: Path, output: Path, **changes: object) -> bytes:
    """Draw with the study's parameters, some of them changed, and return SVG and PNG as one."""
    params = getattr(PLOT, figure).model_copy(update=changes)
    save(DRAWINGS[figure](tables / TABLES[figure], Style(PLOT.style), params), output / figure, 50)
    return (output / f"{figure}.svg").read_bytes() + (output / f"{figure}.png").read_bytes()


def svg(figure: str, tables: Path, **changes: object) -> str:
    """Draw and return the SVG's text."""
    draw(figure, tables, tables, **changes)
    return (tables / f"{figure}.svg").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("figure", TABLES)
def test_another_process_draws_the_same_bytes(figure, tmp_path):
    write_tables(tmp_path)
    params = tmp_path / "params.yaml"
    text = (ROOT / "presets/sample.yaml").read_text(encoding="utf-8")
    params.write_text(re.sub(r"dpi: \d+", "dpi: 50", text), encoding="utf-8")
    command = [sys.executable, ROOT / "scripts/plot.py", "--params", params]
    command += ["--figure", figure, "--table", tmp_path / TABLES[figure]]
    subprocess.run([*command, "--output", tmp_path / "script"], check=True, cwd=tmp_path)
    drawn = draw(figure, tmp_path, tmp_path)
    made = [(tmp_path / "script" / f"{figure}.{kind}").read_bytes() for kind in ("svg", "png")]
    assert drawn == b"".join(made)


@pytest.mark.parametrize(
    ("figure", "changes"),
    [
        ("accuracy", {"show_seeds": not PLOT.accuracy.show_seeds}),
        ("pareto", {"cost": "parameters"}),
        ("pareto", {"log_scale": not PLOT.pareto.log_scale}),
        ("differences", {"intervals": not PLOT.differences.intervals}),
        ("confusion", {"normalize": not PLOT.confusion.normalize}),
        ("recall", {"order": "name"}),
        ("curves", {"metric": "train_loss"}),
        ("reliability", {"show": "after"}),
        ("leak", {"show_leaked": not PLOT.leak.show_leaked}),
        ("robustness", {"show": "drop"}),
        ("classes", {"order": "name"}),
        ("mistakes", {"count": 2}),
    ],
)
def test_an_option_redraws_its_figure(figure, changes, tmp_path):
    write_tables(tmp_path)
    assert draw(figure, tmp_path, tmp_path) != draw(figure, tmp_path, tmp_path, **changes)


def test_names_stay_text_whatever_they_contain(tmp_path):
    write_tables(tmp_path)
    drawn = ElementTree.fromstring(svg("confusion", tmp_path))
    texts = {element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert set(CLASSES) <= texts


@pytest.mark.parametrize("backbones", [2, 12])
@pytest.mark.parametrize(
    "figure", [name for name in TABLES if name not in ("classes", "mistakes", "screening")]
)
def test_few_and_many_backbones_are_all_named(figure, backbones, tmp_path):
    write_tables(tmp_path, backbones=backbones, seeds=1)
    drawn = svg(figure, tmp_path)
    for backbone in read_summary(tmp_path / "summary.csv"):
        assert f">{backbone.backbone}" in drawn


def test_the_frontier_holds_what_no_cheaper_one_beats(tmp_path):
    write_tables(tmp_path)  # alpha 80 % in 4 ms, beta 79 % in 3 ms, gamma 78 % in 2 ms
    backbones = read_summary(tmp_path / "summary.csv")
    accuracies = {each.backbone: each.accuracy for each in backbones}
    costs = {each.backbone: each.latency_ms for each in backbones}
    assert pareto.frontier(accuracies, costs) == ["gamma", "beta", "alpha"]
    assert pareto.frontier(accuracies, costs | {"beta": 5.0}) == ["gamma", "alpha"]
    assert pareto.frontier(accuracies, dict.fromkeys(costs, 1.0)) == ["alpha"]


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ("leak", "no leak"),
        ("robustness", "no corruptions were tried"),
        ("mistakes", "no mistakes to show"),
        ("differences", "one backbone only"),
    ],
)
def test_a_figure_without_data_says_why(figure, said, tmp_path):
    write_tables(tmp_path, backbones=1, seeds=1, leak=False, corruptions=False, mistakes=0)
    assert said in svg(figure, tmp_path)


@pytest.mark.parametrize("figure", TABLES)
def test_the_smallest_study_is_drawn(figure, tmp_path):
    write_tables(tmp_path, backbones=1, seeds=1, leak=False, corruptions=False, mistakes=1)
    assert svg(figure, tmp_path)


def test_many_classes_are_shortened_and_said_so(tmp_path):
    write_tables(tmp_path)
    rows = [
        {"backbone": "alpha", "class": f"class {n:03}", "images": 9}
        | {"recall": n / 200, "low": 0, "high": 1}
        for n in range(100)
    ]
    write_table(tmp_path / "recall.csv", list(rows[0]), rows)
    drawn = svg("recall", tmp_path)
    assert "the first 40 of 100 classes" in drawn
    assert "class 000" in drawn and "class 040" not in drawn


def test_only_significant_differences_are_coloured(tmp_path):
    """Of alpha, beta and gamma only alpha and gamma are told apart: two cells of the matrix."""
    write_tables(tmp_path)
    style = Style(PLOT.style)
    axes = differences.draw(tmp_path / "comparisons.csv", style, PLOT.differences).axes[0]
    shades = axes.collections[0].get_array()
    shades = np.asarray(shades).reshape(3, 3)
    assert [tuple(place) for place in np.argwhere(shades != 0.5)] == [(0, 2), (2, 0)]
    assert shades[0, 2] == 1 and shades[2, 0] == 0


def test_a_map_warms_the_picture_where_it_is_high():
    picture = np.full((1, 3, 3), 100, np.uint8)
    cold, mild, hot = overlay(picture, np.array([[0, 128, 255]], np.uint8))[0].astype(int)
    assert cold.tolist() == [100, 100, 100]
    assert hot[0] > mild[0] > 100 and hot[2] < mild[2] < 100


def test_the_wrong_table_is_named_with_its_missing_column(tmp_path):
    write_tables(tmp_path)
    with pytest.raises(CarbenchError, match=r"curves\.csv: line 2, column model: found no such"):
        accuracy.draw(tmp_path / "curves.csv", Style(PLOT.style), PLOT.accuracy)


def test_the_shortlist_is_named_and_crowds_are_not(tmp_path):
    write_tables(tmp_path, candidates=200)
    drawn = svg("screening", tmp_path)
    for name in ("alpha", "beta", "gamma"):
        assert f">model_{name}" in drawn
    assert drawn.count(">candidate_") <= 12
    assert svg("screening", tmp_path, cost="parameters") != drawn
    assert svg("screening", tmp_path, log_scale=False) != drawn


def test_a_study_without_screening_says_so(tmp_path):
    write_tables(tmp_path, candidates=0)
    assert "no candidates were screened" in svg("screening", tmp_path)
