"""Subsets are nested and trained equally long; power laws are recovered or rejected."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extrapolation import Scenario, average
from hypothesis import given, settings
from hypothesis import strategies as st
from variance_parts import Scenario as Design
from variance_parts import average as average_parts

from carbench.core.tables import read_json, read_table
from carbench.data.split.subsets import draw_positions, select_subset
from carbench.data.split.table import SplitRow
from carbench.statistics.estimates import estimate
from carbench.statistics.jackknife import Groups
from carbench.statistics.learning_curves import fit_learning_curve
from carbench.statistics.power_law import fit_power_laws
from carbench.statistics.scores import subset_scores
from carbench.statistics.subset_runs import read_subsets
from carbench.statistics.variance_components import variance_components
from carbench.training.loop import draw_epoch_order
from carbench.training.run import load_data, train_backbone
from conftest import Project
from image_rows import split_rows
from toy import CPU, recipe


@st.composite
def train_parts(draw: st.DrawFn) -> list[SplitRow]:
    """Draw classes and groups of uneven size; some groups contain several classes."""
    rows = []
    for group in range(draw(st.integers(1, 60))):
        label = draw(st.sampled_from("AABC"))
        for copy in range(draw(st.integers(1, 5))):
            own = draw(st.sampled_from("ABC")) if group % 7 == 0 else label
            rows.append(SplitRow(f"{group}-{copy}", own, group, "train", False))
    return rows


@settings(max_examples=150, deadline=None)
@given(
    train_parts(),
    st.lists(st.floats(0.01, 1), min_size=2, max_size=4),
    st.integers(0, 99),
    st.integers(0, 99),
)
def test_subsets_are_nested_and_consist_of_whole_groups(
    rows: list[SplitRow], fractions: list[float], draw_seed: int, seed: int
) -> None:
    table = split_rows(rows)
    places = draw_positions(table.groups, draw_seed)
    taken = [
        [rows[index] for index in select_subset(table, fraction, places, seed)]
        for fraction in sorted(fractions)
    ]
    for smaller, larger in pairwise(taken):
        assert {row.image for row in smaller} <= {row.image for row in larger}
    for own in taken:
        assert own == [row for row in rows if row.group in {each.group for each in own}]
        assert {row.label for row in own} == {row.label for row in rows}
    assert select_subset(table, 1.0, places, seed).tolist() == list(range(len(rows)))


def test_fractions_apply_to_each_class_and_seeds_select_different_groups() -> None:
    rows = [
        SplitRow(f"{label}{n}", label, 1000 * "AB".index(label) + n // (1 + n % 2), "train", False)
        for label, count in (("A", 400), ("B", 100))
        for n in range(count)
    ]
    table = split_rows(rows)
    places = draw_positions(table.groups, 0)
    first, second = (
        [rows[index] for index in select_subset(table, 0.25, places, seed)] for seed in (0, 1)
    )
    for label, count in (("A", 100), ("B", 25)):
        assert sum(row.label == label for row in first) == pytest.approx(count, abs=2)
    shared = {row.image for row in first} & {row.image for row in second}
    assert len(shared) < len(first) / 2


def test_a_subset_epoch_has_as_many_images_as_a_full_epoch() -> None:
    rng = torch.Generator().manual_seed(0)
    order = draw_epoch_order(10, 25, rng)
    counts = torch.bincount(order, minlength=10)
    assert len(order) == 25
    assert counts.min() == 2 and counts.max() == 3
    assert sorted(order[:10].tolist()) == list(range(10))
    plain = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw_epoch_order(10, None, torch.Generator().manual_seed(0)), plain)
    assert torch.equal(draw_epoch_order(10, 10, torch.Generator().manual_seed(0)), plain)


def test_a_subset_is_trained_for_as_many_steps_as_the_full_set(made: Path) -> None:
    rates = {}
    tensors = {}
    for name, subset in (
        ("all", None),
        ("whole", lambda rows: np.arange(len(rows))),
        ("half", lambda rows: np.arange(24)),
    ):
        data = load_data(made, made / "split.csv", 0, CPU, subset)
        start = made / "start.safetensors"
        trained, _, _ = train_backbone(start, data, recipe(epochs=2), 0, "resnet")
        rates[name] = [epoch.lr for epoch in trained.history]
        tensors[name] = trained.tensors
        assert len(data.train.images) == (24 if name == "half" else 48)
    # The rate falls with every step: equal rates at equal epochs are equal numbers of steps.
    assert rates["all"] == rates["whole"] == rates["half"]
    for name, tensor in tensors["all"].items():
        assert torch.equal(tensor, tensors["whole"][name])
    assert any(
        not torch.equal(each, tensors["half"][name]) for name, each in tensors["all"].items()
    )


@settings(max_examples=50, deadline=None)
@given(st.floats(0.1, 1.0), st.floats(0.0, 0.5), st.integers(3, 6))
def test_a_known_power_law_is_recovered(exponent: float, share: float, count: int) -> None:
    images = 1000 * 0.5 ** np.arange(count)[::-1]
    floor = share * 0.2

    def law(n: Any) -> Any:
        return floor + (0.2 - floor) * (n / 1000) ** -exponent

    errors = law(images)[None]
    found = fit_power_laws(errors, images, np.ones(count), share)
    assert found.exponent[0] == pytest.approx(exponent)
    assert found.error(2000.0)[0] == pytest.approx(law(2000))


def test_too_few_fractions_are_not_extrapolated() -> None:
    rng = np.random.default_rng(0)
    right = rng.random((3, 2, 80)) < np.array([0.6, 0.7, 0.8])[:, None, None]
    scores = subset_scores(Groups(np.arange(80)), right, np.ones((3, 2, 80), bool))
    curve = fit_learning_curve(scores[1:], [0.5, 1.0], [50, 100], 2.0, 0.95)
    assert curve.extrapolation is None
    assert "3 fractions" in curve.reason
    assert [point.fitted for point in curve.points] == [None, None]
    ahead = fit_learning_curve(scores, [0.25, 0.5, 1.0], [25, 50, 100], 2.0, 0.95).extrapolation
    assert ahead and ahead.gain.low <= ahead.gain.value <= ahead.gain.high
    assert ahead.images == 200


def test_the_extrapolation_has_the_stated_coverage() -> None:
    """A quick version of benchmarks/extrapolation.py; the bounds allow for 80 studies only."""
    for scenario in (Scenario(1, 200, 0.0, 0.0), Scenario(2, 200, 0.25, 0.01)):
        _, _, gain, accuracy = average(scenario, 80)
        assert gain >= 0.88
        assert accuracy >= 0.88


def test_variance_components_are_recovered() -> None:
    """A quick version of benchmarks/variance_parts.py."""
    for method, groups in (("published", 800), ("grouped", 1200)):
        design = Design(method, 5, 3, groups, seed_spread=0.02, split_spread=0.03)
        seed, seed_held, split, split_held, held, _ = average_parts(design, 80)
        assert seed**0.5 == pytest.approx(0.02, rel=0.25)
        assert split**0.5 == pytest.approx(0.03, rel=0.3)
        assert min(seed_held, split_held, held) >= 0.85


def test_variance_components_agree_with_an_anova() -> None:
    """Without variance due to images, they follow from the mean squares of a nested design."""
    values = np.array([0.80, 0.82, 0.74, 0.70, 0.90, 0.88])
    splits = np.array([0, 0, 1, 1, 2, 2])
    groups = np.arange(50)
    right = np.arange(50) < np.round(50 * values)[:, None]
    (score,) = subset_scores(Groups(groups, splits), right, np.ones((1, 6, 50), bool))
    still = score.left_out * 0 + score.by_training
    exact = replace(score, left_out=still)
    images, seed, split = variance_components(exact, 0.95)
    table = values.reshape(3, 2)
    within = table.var(axis=1, ddof=1).mean()
    between = 2 * table.mean(axis=1).var(ddof=1)
    assert images.variance == 0
    assert seed.variance == pytest.approx(within)
    assert split.variance == pytest.approx((between - within) / 2)
    assert estimate(exact).training_variance == pytest.approx(between / 6)


@pytest.mark.parametrize(
    ("splits", "trainings", "notes"),
    [
        (
            None,
            1,
            {"seed": "not measured (only one seed)", "split": "not measured (only one split)"},
        ),
        (None, 3, {"seed": "", "split": "not measured (only one split)"}),
        ([0, 1, 2], 3, {"seed and split": "not separable with one seed per split"}),
        ([0, 0, 1, 1], 4, {"seed": "", "split": ""}),
    ],
)
def test_missing_measurements_are_stated(
    splits: list[int] | None, trainings: int, notes: dict[str, str]
) -> None:
    right = np.random.default_rng(1).random((trainings, 60)) < 0.8
    groups = Groups(np.arange(60), None if splits is None else np.array(splits))
    (score,) = subset_scores(groups, right, np.ones((1, trainings, 60), bool))
    parts = variance_components(score, 0.95)
    assert {part.name: part.note for part in parts} == {"images": ""} | notes
    for part in parts:
        assert (part.variance is None) == part.note.startswith("not measured")


@pytest.mark.slow
def test_the_smoke_study_has_a_learning_curve(smoke_run: Project) -> None:
    results = smoke_run.root / "results"
    rows = read_table(results / "learning_curve/learning_curve.csv")
    assert {(row["backbone"], row["fraction"]) for row in rows} == {
        (name, fraction) for name in ("resnet", "mobilenet") for fraction in ("0.5", "1")
    }
    record = read_json(results / "subset/resnet/0.5/0/provenance.json")
    history = read_table(results / "train/resnet/0/history.csv")
    steps = record["all_images"] // record["params"]["batch_size"]
    assert record["steps"] == len(history) * steps
    assert record["images"] == pytest.approx(record["all_images"] / 2, abs=6)
    # The last point is stage train's.
    runs = read_subsets(results / "subset", "resnet", [0.5], [0])
    val = read_table(results / "train/resnet/0/val.csv")
    assert runs.correct[-1].sum() == sum(row["predicted"] == row["class"] for row in val)
    reason = read_table(results / "learning_curve/extrapolation.csv")[0]["reason"]
    assert "3 fractions" in reason
