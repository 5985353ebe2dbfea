"""Thresholds and prediction sets keep their guarantees; label errors agree with cleanlab."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from calibration import Scenario
from calibration import judge as judge_intervals
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, kstest

from carbench.core.tables import read_table
from carbench.data.split.table import SplitRow
from carbench.evaluation.conformal import fit_set_threshold, prediction_sets
from carbench.evaluation.label_errors import suggest_labels
from carbench.evaluation.metrics import calibration_error
from carbench.evaluation.selective_prediction import ABSTAIN, fit_threshold, nominal_level
from carbench.models.model_file import save_model
from carbench.models.prediction_table import prediction_rows
from carbench.models.temperature import apply_temperature
from carbench.statistics.calibration_intervals import calibration_error_score
from carbench.statistics.jackknife import Groups
from carbench.statistics.scores import training_rounds
from carbench.statistics.selective_metrics import (
    FittedThresholds,
    apply_thresholds,
    prediction_set_metrics,
    selective_metrics,
)
from conftest import run_script

WANTED = 0.1


def images(rng: np.random.Generator, count: int) -> tuple[Any, Any]:
    """Return calibrated confidences, and whether each prediction is right."""
    sure = 1 / (1 + np.exp(-rng.normal(2.2, 2.0, count)))
    return sure, rng.random(count) < sure


def test_the_joint_significance_level_is_exact() -> None:
    """All outcomes for twelve images are enumerated."""
    level = nominal_level(12, 0.3, 0.9)

    def passing(nominal: float) -> float:
        total = 0.0
        for wrong in product((0, 1), repeat=12):
            errors = np.cumsum(wrong)
            if (binom.cdf(errors, np.arange(1, 13), 0.3) <= nominal).any():
                total += 0.3 ** errors[-1] * 0.7 ** (12 - errors[-1])
        return total

    assert passing(level) <= 0.1
    assert passing(level * 1.3) > 0.1


def test_the_target_error_is_kept_as_often_as_guaranteed() -> None:
    rng = np.random.default_rng(0)
    truth = np.sort(images(rng, 1_000_000)[0])[::-1]
    error_above = np.cumsum(1 - truth) / np.arange(1, len(truth) + 1)
    kept, answered = [], []
    for _ in range(300):
        found = fit_threshold(*images(rng, 250), WANTED, 0.9)
        share = np.searchsorted(-truth, -found.value)  # that it answers, of a million
        kept.append(share == 0 or error_above[share - 1] <= WANTED)
        answered.append(share / len(truth))
    assert binom.cdf(sum(kept), 300, 0.9) > 0.01
    # Answering all would err on 17 %; what keeps 10 % is at most 85 % of the images.
    assert 0.5 < np.mean(answered) < np.searchsorted(error_above, WANTED) / len(truth)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 120), st.integers(0, 10_000), st.integers(1, 4))
def test_a_threshold_states_its_answers_and_errors(count: int, seed: int, digits: int) -> None:
    sure, right = images(np.random.default_rng(seed), count)
    sure = np.round(sure, digits)  # many are equal
    found = fit_threshold(sure, right, WANTED, 0.9)
    above = sure > found.value
    assert (found.images, found.answered) == (count, above.sum())
    assert found.wrong == (~right[above]).sum()
    assert found.bound <= WANTED or found.value == ABSTAIN
    order = np.random.default_rng(seed).permutation(count)
    assert fit_threshold(sure[order], right[order], WANTED, 0.9) == found


def test_enough_correct_predictions_are_all_answered() -> None:
    sure = np.linspace(0.5, 0.9, 100)
    assert fit_threshold(sure, np.ones(100, np.bool_), WANTED, 0.95).value == 0
    assert fit_threshold(sure[:20], np.ones(20, np.bool_), WANTED, 0.95).value == ABSTAIN
    one_early = np.arange(100) != 99  # the surest is wrong: a label may be
    assert fit_threshold(sure, one_early, WANTED, 0.95).answered > 90


@pytest.mark.parametrize(("count", "coverage"), [(50, 0.9), (59, 0.95), (99, 0.8)])
def test_the_coverage_of_sets_has_its_exact_distribution(count: int, coverage: float) -> None:
    """It is a Beta distribution (Vovk, ACML 2012) if the most probable class may be left out."""
    rng = np.random.default_rng(count)
    thresholds = [
        fit_set_threshold(rng.random((count, 1)), np.zeros(count, np.int64), coverage)
        for _ in range(2000)
    ]
    missed = int((count + 1) * (1 - coverage) + 1e-9)
    law = beta(count + 1 - missed, missed)
    assert kstest(1 - np.array(thresholds), law.cdf).pvalue > 0.001
    assert law.mean() >= coverage


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(2, 6), st.integers(0, 10_000), st.floats(0, 0.99))
def test_sets_cover_the_images_they_were_fitted_on(
    count: int, classes: int, seed: int, coverage: float
) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), count)
    labels = rng.integers(classes, size=count)
    sets = prediction_sets(probabilities, fit_set_threshold(probabilities, labels, coverage))
    assert sets[np.arange(count), labels].mean() >= coverage - 1e-9
    assert sets[np.arange(count), probabilities.argmax(axis=1)].all()
    if (count + 1) * (1 - coverage) < 1 - 1e-6:
        assert sets.all()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000), st.floats(0.3, 4))
def test_label_errors_agree_with_cleanlab(classes: int, seed: int, sharpness: float) -> None:
    from cleanlab.filter import find_label_issues

    rng = np.random.default_rng(seed)
    true = np.append(np.arange(classes).repeat(2), rng.integers(classes, size=150))
    probabilities = rng.dirichlet(np.ones(classes), len(true))
    probabilities[np.arange(len(true)), true] += sharpness
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = np.where(rng.random(len(true)) < 0.1, rng.integers(classes, size=len(true)), true)
    labels[: 2 * classes] = true[: 2 * classes]  # cleanlab wants every class
    suggested = suggest_labels(probabilities, labels)
    suspects = np.flatnonzero(suggested != labels)
    ranked = suspects[np.argsort(probabilities[suspects, labels[suspects]], kind="stable")]
    reference = find_label_issues(
        labels,
        probabilities,
        return_indices_ranked_by="self_confidence",
        filter_by="confident_learning",
        n_jobs=1,
    )
    assert ranked.tolist() == reference.tolist()


def test_a_class_without_images_is_never_suggested() -> None:
    probabilities = np.array([[0.1, 0.0, 0.9], [0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    assert suggest_labels(probabilities, np.array([0, 0, 1])).tolist() == [0, 0, 1]


def test_written_probabilities_are_exact_enough_for_any_temperature() -> None:
    logits = np.random.default_rng(1).normal(0, 12, (200, 5))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    assert probabilities.max() > 0.9999999
    rows = [SplitRow(f"{n}.jpg", "a", n, "val", False) for n in range(200)]
    written = list(prediction_rows(rows, probabilities, list("abcde")))
    read = np.array([[float(row[f"p:{name}"]) for name in "abcde"] for row in written])
    for temperature in (0.5, 3.0):
        exact = apply_temperature(probabilities, temperature)
        assert 1 - apply_temperature(read, temperature) == pytest.approx(
            1 - exact, rel=1e-4, abs=1e-12
        )


def folds(count: int, seed: int, number: int) -> tuple[Any, Any, Any]:
    """Return (S, N) correctness, confidence and tested: two rounds, one training run per fold."""
    rng = np.random.default_rng(seed)
    tested = np.arange(count) % number == np.arange(2 * number)[:, None] % number
    sure = np.round(rng.uniform(0.5, 1, tested.shape), 6) * tested
    return (rng.random(tested.shape) < sure**2) & tested, sure, tested


@pytest.mark.parametrize("number", [1, 4])
def test_the_calibration_error_is_computed_over_whole_rounds(number: int) -> None:
    right, sure, tested = folds(240, 3, number)
    rounds = [training_rounds(tested) == each for each in range(2)]
    assert [own.sum() for own in rounds] == [number, number]
    score, noise = calibration_error_score(Groups(np.arange(240)), right, sure, tested, bins=8)
    for value, own in zip(score.by_training, rounds, strict=True):
        sures, rights = sure[own].sum(axis=0), right[own].any(axis=0)
        two = np.stack([sures, 1 - sures], axis=1)
        assert value == pytest.approx(calibration_error(two, 1 - rights.astype(int), 8), abs=1e-6)
    assert 0 < noise < 0.1


@pytest.mark.parametrize("stretch", [1.0, 2.0])
def test_intervals_of_loss_and_calibration_error_contain_the_true_value(stretch: float) -> None:
    """Also where the true calibration error is zero, which resampling alone misses."""
    found = judge_intervals((Scenario(200, 1, 2.5, stretch), 80))
    held = {"nll": found[1], "ece": found[4]}
    for name, share in held.items():
        assert binom.cdf(round(80 * share), 80, 0.95) > 0.003, (name, share)
    assert found[5] < 0.12


def thresholds(answer: float | None, member: float | None) -> FittedThresholds:
    wanted = None if answer is None else 0.1
    return FittedThresholds(
        wanted, wanted and 0.95, answer, None if member is None else 0.9, member
    )


def test_decisions_agree_with_a_manual_count() -> None:
    labels = np.array([0, 0, 1, 1, 0, 1, 0, 1])
    first = np.array([0.9, 0.8, 0.1, 0.7, 0.45, 0.4, 0.99, 0.05])
    probabilities = np.stack([first, 1 - first], axis=1)
    tested = np.ones((2, 8), np.bool_)
    tested[:, 7] = False  # leaked
    both = [(np.arange(8), probabilities), (np.arange(8), probabilities[:, ::-1])]
    decided = apply_thresholds(
        labels, tested, both, [thresholds(0.65, 0.42), thresholds(1.0, 0.42)]
    )
    groups = Groups(np.arange(8))
    answered, error = selective_metrics(groups, {"one": decided}, 0.95)["one"]
    assert answered.value == pytest.approx(5 / 14)  # the second training never answers
    assert error is not None
    assert error.value == pytest.approx(1 / 5)
    assert error.low < 1 / 5 < error.high
    covered, size = prediction_set_metrics(groups, {"one": decided}, 0.95)["one"]
    assert covered.value == pytest.approx((6 + 2) / 14)
    assert size.value == pytest.approx((6 + 2) / 7)  # 0.45 and 0.55 are both in the set
    never = apply_thresholds(labels, tested, both, [thresholds(1.0, None)] * 2)
    share, error = selective_metrics(groups, {"one": never}, 0.95)["one"]
    assert (share.value, share.high, error) == (0, 0, None)
    assert apply_thresholds(labels, tested, both, [thresholds(None, None)] * 2).answered is None


def test_calibrate_reads_only_val(study: Callable[..., Path], tmp_path: Path) -> None:
    """Every training run of the smoke study is calibrated on one image per duplicate group."""
    for name, wrong in (("resnet", 0), ("mobilenet", 5)):
        folder = tmp_path / "train" / name / "0"
        folder.mkdir(parents=True)
        save_model(folder / "model.safetensors", {}, {"temperature": 2.0})
        sure = np.linspace(0.6, 0.99, 200)
        right = np.arange(200) % wrong > 0 if wrong else np.ones(200, np.bool_)
        pd.DataFrame(
            {
                "image": [f"{n}.jpg" for n in range(200)],
                "class": "a",
                "group": np.arange(200) // 2,  # twins
                "predicted": np.where(right, "a", "b"),
                "p:a": np.where(right, sure, 1 - sure),
                "p:b": np.where(right, 1 - sure, sure),
            }
        ).to_csv(folder / "val.csv", index=False)
    output = tmp_path / "calibrate/thresholds.csv"
    done = run_script(
        "calibrate", "--params", study(), "--train", tmp_path / "train", "--output", output
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 2 training runs always abstain" in done.stderr
    wrong, right = read_table(output)  # in order of their names
    assert (right["images"], right["answered"], right["threshold"]) == ("100", "100", "0")
    assert (wrong["threshold"], wrong["answered"], wrong["error_bound"]) == ("1", "0", "1")
    # Of 100 groups four may be left out; the fifth is image 8, after temperature.
    lowest = apply_temperature(np.array([[0.6 + 0.39 * 8 / 199, 0.4 - 0.39 * 8 / 199]]), 2.0)[0, 0]
    assert float(right["set_threshold"]) == pytest.approx(lowest)
