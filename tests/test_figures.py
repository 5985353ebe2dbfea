"""Figures: the same bytes always, each option at work, any name and any number of rows."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from carbench.errors import CarbenchError
from carbench.figures import accuracy, confusion, curves, pareto
from carbench.figures.style import Style, save
from carbench.figures.summary import read_summary
from carbench.params.base import read_section
from carbench.params.plot import PlotParams
from carbench.tables import write_table

ROOT = Path(__file__).parents[1]
PLOT = read_section(ROOT / "params.yaml", "plot", PlotParams)
FIGURES = {
    "accuracy": (accuracy.draw, "summary.csv"),
    "pareto": (pareto.draw, "summary.csv"),
    "curves": (curves.draw, "curves.csv"),
    "confusion": (confusion.draw, "confusion.csv"),
}
ODD = '<b>&"x'
CLASSES = [ODD, "$1 $2", "Škoda"]


def write_tables(folder: Path, backbones: int = 3, seeds: int = 2, leak: bool = True) -> None:
    """Write what aggregate would: the n-th backbone is n points worse than the first, at 80 %."""
    names = ["alpha", "beta", "gamma", *(f"backbone-{n}" for n in range(3, backbones))][:backbones]
    summary, epochs, cells, comparisons = [], [], [], []
    for n, name in enumerate(names):
        mean = 0.8 - n / 100
        summary.append(
            {
                "backbone": name,
                "model": f"model_{name}",
                "chosen": int(n == 0),
                "seeds": " ".join(str(seed) for seed in range(seeds)),
                "val_accuracy": mean + 0.05,
                "accuracy": mean,
                "accuracy_low": mean - 0.03,
                "accuracy_high": mean + 0.025,
                "confidence": 0.95,
                "accuracy_by_seed": " ".join(
                    str(mean + (seed - (seeds - 1) / 2) / 100) for seed in range(seeds)
                ),
                **dict.fromkeys(("balanced_accuracy", "macro_f1", "nll", "ece"), 0.5),
                "test_images": 100,
                "test_groups": 90,
                "leaked_images": 40 if leak else 0,
                "leaked_accuracy": 0.95 if leak else "",
                "published_accuracy": mean + 0.07 if leak else mean,
                "leak_gap": 0.07 if leak else "",
                "parameters": 1_000_000 * (n + 1),
                "macs": 5_000_000 * (n + 1),
                "latency_ms": 4 - n % 3,
                **dict.fromkeys(("throughput", "peak_memory_mb"), 100),
                "device": "cpu",
            }
        )
        epochs += [
            {
                **{"backbone": name, "seed": seed, "epoch": epoch, "lr": 0.1},
                **{"train_loss": 2 / epoch, "val_loss": 3 / epoch, "val_accuracy": epoch / 5},
                "chosen": int(epoch == 3),
            }
            for seed in range(seeds)
            for epoch in (1, 2, 3)
        ]
        cells += [
            {"backbone": name, "class": true, "predicted": said, "count": 9 if true == said else 2}
            for true in CLASSES
            for said in CLASSES
        ]
        comparisons += [
            {
                **{"backbone": name, "other": other, "difference": (m - n) / 100},
                "difference_low": (m - n) / 100 - 0.015,
                "difference_high": (m - n) / 100 + 0.015,
            }
            for m, other in enumerate(names)
            if m > n
        ]
    columns = ["backbone", "other", "difference", "difference_low", "difference_high"]
    write_table(folder / "summary.csv", list(summary[0]), summary)
    write_table(folder / "curves.csv", list(epochs[0]), epochs)
    write_table(folder / "confusion.csv", list(cells[0]), cells)
    write_table(folder / "comparisons.csv", columns, comparisons)


def draw(figure: str, tables: Path, output: Path, **changes: object) -> bytes:
    """Draw with the study's parameters, some of them changed, and return the SVG."""
    function, table = FIGURES[figure]
    params = getattr(PLOT, figure).model_copy(update=changes)
    save(function(tables / table, Style(PLOT.style), params), output, figure)
    return output.read_bytes()


@pytest.mark.parametrize("figure", FIGURES)
def test_another_process_draws_the_same_bytes(figure, tmp_path):
    write_tables(tmp_path)
    command = [sys.executable, ROOT / "scripts/plot.py", "--params", ROOT / "params.yaml"]
    command += ["--figure", figure, "--table", tmp_path / FIGURES[figure][1]]
    subprocess.run([*command, "--output", tmp_path / "script.svg"], check=True, cwd=tmp_path)
    assert (
        draw(figure, tmp_path, tmp_path / "library.svg") == (tmp_path / "script.svg").read_bytes()
    )


@pytest.mark.parametrize(
    ("figure", "changes"),
    [
        ("accuracy", {"show_seeds": not PLOT.accuracy.show_seeds}),
        ("pareto", {"cost": "parameters"}),
        ("pareto", {"log_scale": not PLOT.pareto.log_scale}),
        ("curves", {"metric": "train_loss"}),
        ("confusion", {"normalize": not PLOT.confusion.normalize}),
    ],
)
def test_an_option_redraws_its_figure(figure, changes, tmp_path):
    write_tables(tmp_path)
    output = tmp_path / "figure.svg"
    assert draw(figure, tmp_path, output) != draw(figure, tmp_path, output, **changes)


def test_names_stay_text_whatever_they_contain(tmp_path):
    write_tables(tmp_path)
    svg = ElementTree.fromstring(draw("confusion", tmp_path, tmp_path / "figure.svg"))
    texts = {element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert set(CLASSES) <= texts


@pytest.mark.parametrize("backbones", [1, 12])
@pytest.mark.parametrize("figure", FIGURES)
def test_few_and_many_backbones_are_all_named(figure, backbones, tmp_path):
    write_tables(tmp_path, backbones=backbones, seeds=1, leak=False)
    drawn = draw(figure, tmp_path, tmp_path / "figure.svg").decode()
    for backbone in read_summary(tmp_path / "summary.csv"):
        assert f">{backbone.backbone}" in drawn


def test_the_frontier_holds_what_no_cheaper_one_beats(tmp_path):
    write_tables(tmp_path)  # alpha 80 % in 4 ms, beta 79 % in 3 ms, gamma 78 % in 2 ms
    backbones = read_summary(tmp_path / "summary.csv")
    costs = {each.backbone: each.latency_ms for each in backbones}
    assert pareto.frontier(backbones, costs) == ["gamma", "beta", "alpha"]
    assert pareto.frontier(backbones, costs | {"beta": 5.0}) == ["gamma", "alpha"]
    assert pareto.frontier(backbones, dict.fromkeys(costs, 1.0)) == ["alpha"]


def test_the_wrong_table_is_named_with_its_missing_column(tmp_path):
    write_tables(tmp_path)
    with pytest.raises(CarbenchError, match=r"curves\.csv: line 2, column model: found no such"):
        accuracy.draw(tmp_path / "curves.csv", Style(PLOT.style), PLOT.accuracy)
