"""Metrics agree with their definitions; intervals behave as intervals; the winner is val's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from carbench.bootstrap import Bootstrap
from carbench.metrics import calibration_error, measure
from carbench.params.aggregate import AggregateParams
from carbench.summarizing import Run, choose, headline, summarize

PARAMS = AggregateParams(confidence=0.95, resamples=1000, seed=0)


def test_metrics_of_predictions_worked_by_hand() -> None:
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.4, 0.6]])
    measured = measure(probabilities, np.array([0, 1, 1, 1]), ["a", "b"], bins=2)
    assert measured["accuracy"] == 0.75
    assert measured["recall"] == {"a": 1.0, "b": pytest.approx(2 / 3)}
    assert measured["balanced_accuracy"] == pytest.approx(5 / 6)
    assert measured["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert measured["nll"] == pytest.approx(-np.log([0.8, 0.4, 0.7, 0.6]).mean())
    # Sorted by confidence: .6 (wrong), .6 (right) | .7, .8 (right).
    assert measured["ece"] == pytest.approx((2 * abs(0.5 - 0.6) + 2 * abs(1 - 0.75)) / 4)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(1, 60), st.integers(0, 2**31))
def test_metrics_agree_with_scikit_learn(classes: int, count: int, seed: int) -> None:
    from sklearn.metrics import accuracy_score, f1_score, log_loss, recall_score

    dice = np.random.default_rng(seed)
    probabilities = dice.dirichlet(np.ones(classes), count)
    labels = dice.integers(0, classes, count)
    predicted = probabilities.argmax(1)
    names = [str(number) for number in range(classes)]
    measured = measure(probabilities, labels, names, bins=5)
    every = np.arange(classes)
    assert measured["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert measured["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert measured["nll"] == pytest.approx(log_loss(labels, probabilities, labels=every))
    recalls = recall_score(labels, predicted, labels=every, average=None, zero_division=np.nan)
    found = [np.nan if value is None else value for value in measured["recall"].values()]
    assert found == pytest.approx(recalls, nan_ok=True)
    assert measured["balanced_accuracy"] == pytest.approx(np.nanmean(recalls))


def test_a_class_without_test_pictures_has_no_recall() -> None:
    measured = measure(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]), ["a", "b"], bins=5)
    assert measured["recall"]["b"] is None
    assert measured["balanced_accuracy"] == 0.5


def test_a_calibrated_model_has_nearly_no_calibration_error() -> None:
    dice = np.random.default_rng(0)
    first = dice.uniform(0, 1, 50_000)
    labels = (dice.uniform(0, 1, 50_000) > first).astype(np.int64)
    honest = np.stack([first, 1 - first], 1)
    assert calibration_error(honest, labels, 15) < 0.01
    boastful = np.where(honest > 0.5, 0.99, 0.01)
    assert calibration_error(boastful, labels, 15) > 0.2


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Simulated studies with a known accuracy; a binomial set without groups, one seed."""
    dice = np.random.default_rng(1)
    covered = 0
    for study in range(300):
        correct = dice.uniform(size=(1, 300)) < 0.8
        bootstrap = Bootstrap(np.arange(300), 1, 500, study, 0.95)
        interval = bootstrap.interval(correct.mean(), bootstrap.accuracies(correct))
        covered += interval.low <= 0.8 <= interval.high
    assert 0.91 <= covered / 300 <= 0.98


@pytest.mark.parametrize("right", [True, False])
def test_all_right_is_not_certainty(right: bool) -> None:
    """Clopper and Pearson, as scipy has it, counting groups."""
    correct = np.full((2, 32), right)
    bootstrap = Bootstrap(np.arange(32) // 2, 2, 200, 0, 0.95)
    interval = bootstrap.accuracy_interval(correct, bootstrap.accuracies(correct))
    reference = binomtest(16 if right else 0, 16).proportion_ci(0.95, "exact")
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high))


def test_pictures_of_one_group_count_as_one_piece_of_evidence() -> None:
    correct = np.tile(np.random.default_rng(2).uniform(size=40) < 0.7, 10)[None]
    alone = Bootstrap(np.arange(400), 1, 1000, 0, 0.95)
    grouped = Bootstrap(np.tile(np.arange(40), 10), 1, 1000, 0, 0.95)
    narrow = alone.interval(0.7, alone.accuracies(correct))
    wide = grouped.interval(0.7, grouped.accuracies(correct))
    assert wide.high - wide.low > 2.5 * (narrow.high - narrow.low)


def run(backbone: str, seed: int, val: float, right: list[bool], leaked: int = 0) -> Run:
    predictions = pd.DataFrame(
        {
            "image": [f"{number}.jpg" for number in range(len(right))],
            "class": "a",
            "group": range(len(right)),
            "leaked": [int(number < leaked) for number in range(len(right))],
            "predicted": ["a" if hit else "b" for hit in right],
        }
    )
    part = {"images": len(right), "groups": len(right), "recall": {}}
    numbers = dict.fromkeys(("balanced_accuracy", "macro_f1", "nll", "ece"), 0.5)
    clean = part | numbers | {"accuracy": float(np.mean(right[leaked:]))}
    every = part | numbers | {"accuracy": float(np.mean(right))}
    metrics: dict[str, Any] = {"val_accuracy": val, "clean": clean, "leaked": None, "all": every}
    if leaked:
        metrics["leaked"] = (
            part | numbers | {"accuracy": float(np.mean(right[:leaked])), "images": leaked}
        )
    return Run(backbone, seed, metrics, predictions)


COST = {
    "model": "m",
    "parameters": 1,
    "macs": 2,
    "latency_ms": {"median": 3.0},
    "throughput": 4.0,
    "peak_memory_mb": 5.0,
    "device": "cpu",
}


def test_val_chooses_the_winner_even_if_test_would_not() -> None:
    half = [True, False] * 30
    runs = [run("luck", 0, 0.6, [True] * 60), run("best", 0, 0.7, half)]
    assert choose(runs) == "best"
    summary, comparisons = summarize(runs, {"luck": COST, "best": COST}, PARAMS)
    assert summary.iloc[0]["backbone"] == "best"
    assert comparisons.iloc[0][["backbone", "other"]].tolist() == ["best", "luck"]
    assert comparisons.iloc[0]["difference"] == pytest.approx(-0.5)
    assert comparisons.iloc[0]["difference_high"] < 0
    assert headline(summary)["winner"]["backbone"] == "best"


def test_equal_predictions_differ_by_nothing_at_all() -> None:
    right = [True, True, False] * 20
    runs = [run("one", 0, 0.7, right), run("two", 0, 0.6, right)]
    _, comparisons = summarize(runs, {"one": COST, "two": COST}, PARAMS)
    row = comparisons.iloc[0]
    assert row["difference_low"] == row["difference"] == row["difference_high"] == 0


def test_the_leak_gap_is_what_leaked_pictures_add() -> None:
    runs = [run("one", seed, 0.7, [True] * 20 + [True, False] * 20, leaked=20) for seed in (0, 1)]
    summary, _ = summarize(runs, {"one": COST}, PARAMS)
    row = summary.iloc[0]
    assert row["accuracy"] == 0.5
    assert row["leak_gap"] == pytest.approx(40 / 60 - 0.5)
    assert row["accuracy_low"] < 0.5 < row["accuracy_high"]
