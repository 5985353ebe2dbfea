"""Figures: reproducible bytes, effective options, any names and numbers of rows."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from carbench.core.errors import CarbenchError
from carbench.core.params import read_section, read_yaml
from carbench.core.tables import read_table, write_json, write_table
from carbench.params.plot import PlotParams
from carbench.report.figures import accuracy, differences, pareto
from carbench.report.plotting.attribution_overlay import overlay_attribution
from carbench.report.plotting.colours import contrast, legible
from carbench.report.plotting.point_labels import Label, place_labels
from carbench.report.plotting.style import Style, save_figure
from carbench.report.tables.result_tables import read_summary

ROOT = Path(__file__).parents[1]
PLOT = read_section(ROOT / "presets/sample.yaml", "plot", PlotParams)
FIGURES = read_yaml(ROOT / "dvc.yaml")["stages"]["plot"]["foreach"]
TABLES = {name: figure["table"].removeprefix("results/") for name, figure in FIGURES.items()}
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
    curve: bool = True,
) -> None:
    """Write the tables of aggregate and shortlist; backbone n is n points worse than the first.

    The first has an accuracy of 80 %; differences of more than one point are significant.
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
                "training_part": 0.3,
                "deployment_mix": "an equal mix of all classes",
                "exported_seed": 0,
                **around("exported_accuracy", "exported", mean - 0.004),
                "accuracy_by_seed": " ".join(
                    str(mean + (seed - (seeds - 1) / 2) / 100) for seed in range(seeds)
                ),
                **around("balanced_accuracy", "balanced_accuracy", 0.5),
                **around("macro_f1", "macro_f1", 0.5),
                **around("nll", "nll", 0.7),
                **around("nll_calibrated", "nll_calibrated", 0.6),
                **around("ece", "ece", 0.1),
                **around("ece_calibrated", "ece_calibrated", 0.05),
                "temperature": 1.3,
                "test_images": 100,
                "test_groups": 90,
                "leaked_images": 40 if leak else 0,
                **around("leaked_accuracy", "leaked", 0.95 if leak else ""),
                **around("published_accuracy", "published", mean + 0.07 if leak else ""),
                **around("clean_as_published", "clean_as_published", mean if leak else ""),
                **around("leak_gap", "leak_gap", 0.07 if leak else ""),
                "parameters": 1_000_000 * (n + 1),
                "macs": 5_000_000 * (n + 1),
                **{"onnx_bytes": 4e6, "onnx_memory_mb": 100},
                **around("onnx_ms", "onnx_ms", 4 - n % 3),
                **around("onnx_end_to_end_ms", "onnx_end_to_end_ms", 7.2 - n % 3),
                **around("torch_ms", "torch_ms", 9),
                **{"runtime": "ONNX Runtime 1.2, CPU, 1 thread", "machine": "Abacus"},
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
            | {"training_part": 0.2}
            for m, label in enumerate(CLASSES)
        )
        tables.setdefault("reliability", []).extend(
            {"backbone": name, "calibrated": calibrated, "bin": bin, "images": 10}
            | {"confidence": bin / 4, **around("accuracy", "", bin / (4 if calibrated else 5))}
            for calibrated in (0, 1)
            for bin in range(1, 4)
        )
        tables.setdefault("risk_coverage", []).extend(
            {"backbone": name, "coverage": share / 10, "images": 10 * share}
            | {"threshold": 1 - share / 20, **around("error", "", 0.03 + (1 - mean) * share / 10)}
            | {"max_error": 0.1, "fitted": int(share == 7)}
            for share in (*range(1, 11), 7)
        )
        tables.setdefault("decisions", []).append(
            {"backbone": name, "max_error": 0.1, "guaranteed": 0.95}
            | {"thresholds": " ".join(f"0.{6 + seed}5" for seed in range(seeds))}
            | around("answered", "answered", 0.7 - n / 50)
            | around("error", "error", 0.08)
            | {"set_coverage": 0.95}
            | around("covered", "covered", 0.96)
            | around("set_size", "set_size", 1.5)
            | {"single": 0.6}
        )
        tables.setdefault("sets", []).extend(
            {"backbone": name, "class": label, "images": 4, **around("covered", "", 0.9 - m / 10)}
            | {"set_size": 1.5}
            for m, label in enumerate(CLASSES)
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
        tables.setdefault("learning_curve", []).extend(
            {"backbone": name, "fraction": fraction, "images": 400 * fraction, "steps": 90}
            | {"kind": "measured" if fraction <= 1 else "extrapolated", "seeds": "0 1"}
            | around("accuracy", "", mean - 0.05 / fraction)
            | {"fitted": mean - 0.05 / fraction, "accuracy_by_seed": "0.7 0.8"}
            | {"val_images": 50, "confidence": 0.95}
            for fraction in ((0.25, 0.5, 1, 2) if curve else ())
        )
        tables.setdefault("extrapolation", []).extend(
            {"backbone": name, "factor": 2, "images": 800, "training_noise": 1, "fits": 1}
            | {"reason": ""}
            | around("accuracy", "accuracy", mean + 0.01)
            | around("gain", "gain", 0.035)
            | {"exponent": 0.3}
            for _ in ((0,) if curve else ())
        )
        tables.setdefault("variance_parts", []).extend(
            {"backbone": name, "part": part, **around("deviation", "", 0.05)}
            | {"degrees_of_freedom": 3, "note": ""}
            for part in ("images", "seed", "split")
        )
        tables.setdefault("choice", []).append(
            {
                **{"backbone": name, "chosen": int(n == 0), "tied": int(n < 2)},
                **{"eligible": int(n < 2)},
                **around("val_accuracy", "val", mean + 0.05),
                **around("difference", "difference", n / 100),
                **{"p_adjusted": 0.5 if n < 2 else 0.01, "loses_margin": 0.4, "seed": 0},
                **{"cost": 1 + n, "cost_tied": int(n == 0), "cost_by": "macs"},
            }
        )
        tables.setdefault("comparisons", []).extend(
            {"backbone": name, "other": other, **around("difference", "difference", (m - n) / 100)}
            | {"p_value": 0.2, "p_adjusted": 0.4, "significant": int(m - n > 1)}
            | {"better": 0.7, "equivalent": 0.3, "detectable": 0.031, "detectable_half": 0.023}
            for m, other in enumerate(names)
            if m > n
        )
    tables["mistakes"] = [
        {"seed": m % seeds, "image": f"{ODD}/{m}.png", "class": ODD, "predicted": "$1 $2"}
        | {"confidence": 0.9 - m / 100, "seeds_wrong": seeds, "row": m}
        for m in range(mistakes)
    ]
    tables["label_errors"] = [
        {"rank": m + 1, "image": f"{ODD}/{m}.png", "class": ODD, "suggested": "$1 $2"}
        | {"score": 0.01 + m / 100, "suggested_score": 0.9, "trainings": seeds, "part": "val"}
        | {"group": min(m, 1)}
        for m in range(min(mistakes, 3))
    ]
    empty = {"label_errors": LABEL_ERROR_COLUMNS}
    empty |= {"mistakes": MISTAKE_COLUMNS, "comparisons": COMPARISON_COLUMNS}
    empty["robustness"] = ["backbone", "corruption", *around("accuracy", "", 0)]
    empty["robustness"] += around("drop", "drop", 0)
    empty |= {name: ["backbone"] for name in ("learning_curve", "extrapolation")}
    for name, rows in tables.items():
        subfolder = "learning_curve" if name in ("learning_curve", "extrapolation") else ""
        path = folder / subfolder / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        write_table(path, list(rows[0]) if rows else empty[name], rows)
    (folder / "shortlist").mkdir(exist_ok=True)
    screened = [candidate(n) for n in range(candidates)]
    write_table(folder / "shortlist/shortlist.csv", list(candidate(0)), screened)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (mistakes, 8, 8, 3), np.uint8)
    np.savez(folder / "mistakes.npz", images=images, maps=images[..., 0])
    counts = {"test_images": 4, "exact": 1, "near_or_exact": 2}
    sizes = {label: {"images": 4 + n, "unique": 4, "groups": 3} for n, label in enumerate(CLASSES)}
    audit = {
        "by_class": sizes,
        "leak": {"by_class": dict.fromkeys(CLASSES, counts) if leak else {}},
    }
    (folder / "audit").mkdir(exist_ok=True)
    write_json(folder / "audit/audit.json", audit)


def candidate(n: int) -> dict[str, Any]:
    """Return the n-th best screened candidate; the first three are on the shortlist."""
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
LABEL_ERROR_COLUMNS = ["rank", "image", "class", "suggested", "score", "suggested_score"]
LABEL_ERROR_COLUMNS += ["trainings", "part", "group"]
COMPARISON_COLUMNS = ["backbone", "other", "difference", "difference_low", "difference_high"]
COMPARISON_COLUMNS += ["p_value", "p_adjusted", "significant", "better", "equivalent"]
COMPARISON_COLUMNS += ["detectable", "detectable_half"]


def around(name: str, prefix: str, value: Any) -> dict[str, Any]:
    """Return a value and its interval as three columns, all empty if the value is."""
    low, high = (f"{prefix}_low", f"{prefix}_high") if prefix else ("low", "high")
    if value == "":
        return dict.fromkeys((name, low, high), "")
    return {name: value, low: value - 0.03, high: value + 0.025}


def draw(figure: str, tables: Path, output: Path, **changes: object) -> bytes:
    """Draw with some parameters changed, and return the content of all files as one."""
    params = getattr(PLOT, figure).model_copy(update=changes)
    for narrow, name in ((False, figure), (True, f"{figure}-narrow")):
        module = import_module(f"carbench.report.figures.{figure}")
        drawn = module.draw(tables / TABLES[figure], Style(PLOT.style, narrow), params)
        save_figure(drawn, output / name, None if narrow else 50)
    return b"".join((output / file).read_bytes() for file in files(figure))


def files(figure: str) -> list[str]:
    """Return the file names of a figure."""
    return [f"{figure}.svg", f"{figure}-narrow.svg", f"{figure}.png"]


def svg(figure: str, tables: Path, **changes: object) -> str:
    """Draw, and return the text of the wide and the narrow SVG."""
    draw(figure, tables, tables, **changes)
    return "".join((tables / file).read_text(encoding="utf-8") for file in files(figure)[:2])


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
    made = [(tmp_path / "script" / file).read_bytes() for file in files(figure)]
    assert drawn == b"".join(made)


@pytest.mark.slow
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
        ("risk_coverage", {"others": not PLOT.risk_coverage.others}),
        ("leak", {"show_leaked": not PLOT.leak.show_leaked}),
        ("robustness", {"show": "drop"}),
        ("classes", {"order": "name"}),
        ("mistakes", {"count": 2}),
    ],
)
def test_an_option_changes_its_figure(figure, changes, tmp_path):
    write_tables(tmp_path)
    assert draw(figure, tmp_path, tmp_path) != draw(figure, tmp_path, tmp_path, **changes)


def test_names_with_special_characters_stay_text(tmp_path):
    write_tables(tmp_path)
    draw("confusion", tmp_path, tmp_path)
    drawn = ElementTree.parse(tmp_path / "confusion.svg").getroot()
    texts = {element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert set(CLASSES) <= texts


@pytest.mark.slow
@pytest.mark.parametrize("backbones", [2, 12])
@pytest.mark.parametrize("figure", ["accuracy", "pareto", "differences", "curves", "leak"])
def test_every_backbone_is_labelled(figure, backbones, tmp_path):
    write_tables(tmp_path, backbones=backbones, seeds=1)
    drawn = svg(figure, tmp_path)
    for backbone in read_summary(tmp_path / "summary.csv"):
        assert drawn.count(backbone.backbone) >= 2  # wide and narrow


@pytest.mark.parametrize(("figure", "most"), [("recall", 5), ("robustness", 5), ("confusion", 9)])
def test_the_number_of_backbones_beside_the_chosen_one_is_limited(figure, most, tmp_path):
    write_tables(tmp_path, backbones=12, seeds=1)
    drawn = svg(figure, tmp_path)
    named = [
        each.backbone
        for each in read_summary(tmp_path / "summary.csv")
        if f">{each.backbone}" in drawn
    ]
    assert named == ["alpha", "beta", "gamma", *(f"backbone-{n}" for n in range(3, most))]


@pytest.mark.slow
@pytest.mark.parametrize("figure", [name for name in TABLES if name != "mistakes"])
def test_text_is_large_enough_on_a_phone(figure, tmp_path):
    """In a figure that is 320 pixels wide, no font is smaller than 8 pixels."""
    write_tables(tmp_path, backbones=8)
    draw(figure, tmp_path, tmp_path)
    drawn = ElementTree.parse(tmp_path / f"{figure}-narrow.svg").getroot()
    width = float(drawn.attrib["viewBox"].split()[2])
    text = (tmp_path / f"{figure}-narrow.svg").read_text(encoding="utf-8")
    sizes = [float(size) for size in re.findall(r"font-size: ([0-9.]+)px", text)]
    assert sizes and min(sizes) * 320 / width >= 8


def test_the_pareto_front_excludes_backbones_that_a_cheaper_one_beats(tmp_path):
    write_tables(tmp_path)  # alpha 80 % in 4 ms, beta 79 % in 3 ms, gamma 78 % in 2 ms
    backbones = read_summary(tmp_path / "summary.csv")
    accuracies = {each.backbone: each.accuracy for each in backbones}
    costs = {each.backbone: each.onnx_ms for each in backbones}
    assert pareto.pareto_front(accuracies, costs) == ["gamma", "beta", "alpha"]
    assert pareto.pareto_front(accuracies, costs | {"beta": 5.0}) == ["gamma", "alpha"]
    assert pareto.pareto_front(accuracies, dict.fromkeys(costs, 1.0)) == ["alpha"]


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ("leak", "no duplicate of a test image was found"),
        ("robustness", "no corruptions were tested"),
        ("mistakes", "no errors to show"),
        ("differences", "only one backbone"),
    ],
)
def test_a_figure_without_data_states_the_reason(figure, said, tmp_path):
    write_tables(tmp_path, backbones=1, seeds=1, leak=False, corruptions=False, mistakes=0)
    assert said in svg(figure, tmp_path)


@pytest.mark.parametrize("figure", TABLES)
def test_the_smallest_study_is_drawn(figure, tmp_path):
    write_tables(tmp_path, backbones=1, seeds=1, leak=False, corruptions=False, mistakes=1)
    assert svg(figure, tmp_path)


def test_a_truncated_list_of_classes_is_marked(tmp_path):
    write_tables(tmp_path)
    rows = [
        {"backbone": "alpha", "class": f"class {n:03}", "images": 9}
        | {"recall": n / 200, "low": 0, "high": 1, "training_part": 0.1}
        for n in range(100)
    ]
    write_table(tmp_path / "recall.csv", list(rows[0]), rows)
    drawn = svg("recall", tmp_path)
    assert "the first 40 of 100 classes" in drawn
    assert "class 000" in drawn and "class 040" not in drawn


def test_only_significant_differences_are_filled(tmp_path):
    """Of the three pairs, only alpha and gamma differ significantly."""
    write_tables(tmp_path)
    style = Style(PLOT.style)
    axes = differences.draw(tmp_path / "comparisons.csv", style, PLOT.differences).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["alpha − beta", "alpha − gamma", "beta − gamma"]
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    filled = [line.get_markerfacecolor() == style.focus for line in marks]
    assert filled == [False, True, False]


def test_of_many_pairs_only_those_of_the_chosen_backbone_are_drawn(tmp_path):
    write_tables(tmp_path, backbones=5)
    drawn = differences.draw(tmp_path / "comparisons.csv", Style(PLOT.style), PLOT.differences)
    names = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert names == ["beta", "gamma", "backbone-3", "backbone-4"]
    assert "alpha minus each other backbone" in drawn.get_suptitle()


def test_an_uninformative_interval_is_dotted(tmp_path):
    write_tables(tmp_path)
    assert "dotted" not in svg("recall", tmp_path)
    rows = read_table(tmp_path / "recall.csv")
    rows[0] |= {"low": "0.11", "high": "1.0"}
    write_table(tmp_path / "recall.csv", list(rows[0]), rows)
    drawn = svg("recall", tmp_path)
    assert drawn.count("dotted") == 2  # wide and narrow


def test_a_matrix_of_many_classes_shows_those_with_the_most_errors(tmp_path):
    names = [f"class {n:03}" for n in range(120)]
    rows = [
        {"backbone": "alpha", "class": true, "predicted": said, "count": count}
        for n, true in enumerate(names)
        for said, count in ((true, 50), (names[n - 1], n % 120))
    ]
    rows += [
        {"backbone": "alpha", "class": true, "predicted": said, "count": 0}
        for true in names
        for said in names
        if said not in (true, names[names.index(true) - 1])
    ]
    write_table(tmp_path / "confusion.csv", list(rows[0]), rows)
    drawn = svg("confusion", tmp_path)
    assert "of 120 classes with the most errors" in " ".join(drawn.split())
    assert ">class 118<" in drawn and ">class 010<" not in drawn


@pytest.mark.parametrize("paper", ["#ffffff", "#15171a"])
@given(colour=st.integers(0, 0xFFFFFF).map("#{:06x}".format))
def test_colours_become_legible_and_legible_ones_are_unchanged(paper, colour):
    found = legible(colour, paper, 4.5)
    assert contrast(found, paper) >= 4.5
    if contrast(colour, paper) >= 4.5:
        assert found == colour


def test_an_attribution_overlay_is_warm_where_the_map_is_high():
    image = np.full((1, 3, 3), 100, np.uint8)
    cold, mild, hot = overlay_attribution(image, np.array([[0, 128, 255]], np.uint8))[0].astype(int)
    assert cold.tolist() == [100, 100, 100]
    assert hot[0] > mild[0] > 100 and hot[2] < mild[2] < 100


def test_a_wrong_table_is_reported_with_its_missing_column(tmp_path):
    write_tables(tmp_path)
    with pytest.raises(CarbenchError, match=r"curves\.csv: line 2, column model: found no such"):
        accuracy.draw(tmp_path / "curves.csv", Style(PLOT.style), PLOT.accuracy)


@pytest.mark.slow
def test_shortlisted_candidates_are_labelled_and_crowded_ones_are_not(tmp_path):
    write_tables(tmp_path, candidates=200)
    drawn = svg("screening", tmp_path)
    for name in ("alpha", "beta", "gamma"):
        assert f">model_{name}" in drawn
    assert drawn.count(">candidate_") <= 12
    assert svg("screening", tmp_path, cost="parameters") != drawn
    assert svg("screening", tmp_path, log_scale=False) != drawn


def test_a_missing_learning_curve_is_stated(tmp_path):
    write_tables(tmp_path, curve=False)
    assert "learning_curve.fractions is empty" in svg("learning_curve", tmp_path)


def test_missing_screening_is_stated(tmp_path):
    write_tables(tmp_path, candidates=0)
    assert "no candidates were screened" in svg("screening", tmp_path)


def test_labels_cover_neither_points_nor_each_other():
    figure = Figure(figsize=(5, 4))
    axes = figure.subplots()
    points = [(0.30, 0.50), (0.34, 0.52), (0.38, 0.50), (0.70, 0.20)]
    for x, y in points:
        axes.plot([x], [y], "o", markersize=5)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    labels = [Label(f"backbone {number}", point, "black") for number, point in enumerate(points)]
    place_labels(figure, axes, labels, Style(PLOT.style))
    boxes = [Text.get_window_extent(label) for label in axes.texts]
    assert len(boxes) == len(points)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    pixels = axes.transData.transform(points)
    assert not any(box.contains(*pixel) for box in boxes for pixel in pixels)
    assert all(axes.bbox.contains(*corner) for box in boxes for corner in box.corners())
