"""Metrics match references, intervals have their stated coverage, and val decides the choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from coverage import Found, Scenario, coverage, losses, simulate
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from carbench.core.errors import CarbenchError
from carbench.evaluation.metrics import calibration_error, measure, measure_calibration
from carbench.models.model_file import save_model
from carbench.models.temperature import apply_temperature
from carbench.params.choose import ChooseParams
from carbench.statistics.breakdown_tables import recall_table, robustness_table, slice_table
from carbench.statistics.calibration_intervals import calibration_intervals
from carbench.statistics.class_mix import class_shares
from carbench.statistics.confidence_intervals import Interval, share_interval
from carbench.statistics.estimates import Estimate, Score, estimate, estimate_jointly
from carbench.statistics.evaluated_runs import EvaluatedRuns, read_runs
from carbench.statistics.jackknife import Groups
from carbench.statistics.label_error_table import label_error_table
from carbench.statistics.model_selection import choose, describe_choice
from carbench.statistics.paired_comparisons import compare_pairs
from carbench.statistics.prediction_costs import Cost
from carbench.statistics.predictions import UNTESTED, AlignedPredictions, align, read_tables
from carbench.statistics.reliability import equal_mass_bins, reliability_table
from carbench.statistics.scores import ClassScores, subset_scores
from carbench.statistics.summary import (
    SummaryOptions,
    comparison_table,
    score_backbones,
    summarize,
    summary_metrics,
)
from carbench.statistics.top_errors import collect_mistakes
from conftest import ROOT, run_script
from costs import write_costs

RULE = SummaryOptions(confidence=0.95, margin=0.01, mix=None, mix_name="as tested")
CHOOSE = ChooseParams(
    deployment_mix="tested", ties="cheapest", cost="macs", margin=0.01, confidence=0.95
)


def test_metrics_agree_with_a_manual_calculation() -> None:
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

    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), count)
    labels = rng.integers(0, classes, count)
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


def test_a_class_without_test_images_has_no_recall() -> None:
    measured = measure(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]), ["a", "b"], bins=5)
    assert measured["recall"]["b"] is None
    assert measured["balanced_accuracy"] == 0.5


def test_a_calibrated_model_has_a_calibration_error_near_zero() -> None:
    rng = np.random.default_rng(0)
    first = rng.uniform(0, 1, 50_000)
    labels = (rng.uniform(0, 1, 50_000) > first).astype(np.int64)
    honest = np.stack([first, 1 - first], 1)
    assert calibration_error(honest, labels, 15) < 0.01
    boastful = np.where(honest > 0.5, 0.99, 0.01)
    assert calibration_error(boastful, labels, 15) > 0.2


def score_of(right: Any, groups: Any = None, tested: Any = None) -> Score:
    """Return the accuracy of (S, N) correct or wrong predictions as a score."""
    right = np.asarray(right, bool)
    groups = np.arange(right.shape[1]) if groups is None else np.asarray(groups)
    tested = np.ones_like(right) if tested is None else tested
    return subset_scores(Groups(groups), right, tested[None])[0]


def accuracy_of(right: Any, groups: Any = None, tested: Any = None) -> Estimate:
    """Return the accuracy as an estimate that shares no information with others."""
    return estimate(score_of(right, groups, tested))


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(groups=150, seeds=1, accuracy=0.8, spreads=(0.01,) * 4),
        Scenario(groups=150, seeds=3, accuracy=0.8, spreads=(0.02,) * 4),
        Scenario(groups=800, seeds=2, accuracy=0.8, spreads=(0.03,) * 4),
        Scenario(groups=800, seeds=2, accuracy=0.8, spreads=(0.005, 0.01, 0.02, 0.04)),
        Scenario(groups=150, seeds=10, accuracy=0.7, spreads=(0.01,) * 4, folds=5),
    ],
    ids=str,
)
def test_intervals_have_the_stated_coverage(scenario: Scenario) -> None:
    """A quick version of benchmarks/coverage.py; the bounds allow for 150 studies only."""
    found = coverage(scenario, studies=150)
    assert 0.915 <= np.mean([each.accuracies for each in found]) <= 0.985
    assert 0.90 <= np.mean([each.pairs for each in found]) <= 0.99
    assert 0.87 <= np.mean([each.together for each in found]) <= 0.99


def test_sharing_variance_between_backbones_narrows_intervals_and_adds_power() -> None:
    """With two seeds, a backbone's own variance has only one degree of freedom."""
    scenario = Scenario(groups=800, seeds=2, accuracy=0.8, spreads=(0.02,) * 4)
    own = coverage(scenario, studies=60, prior_dof=0)
    moderated = coverage(scenario, studies=60)

    def widest(found: list[Found]) -> float:
        return float(np.quantile([width for each in found for width in each.pair_widths], 0.95))

    assert widest(moderated) < 0.5 * widest(own)
    assert np.mean([each.power for each in moderated]) > np.mean([each.power for each in own])
    assert sum(each.paradox for each in moderated) < sum(each.paradox for each in own)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**31))
def test_differences_of_proportions_lie_between_minus_1_and_1(
    seeds: int, groups: int, accuracy: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = {
        str(number): score_of(rng.uniform(size=(seeds, groups)) < accuracy) for number in range(3)
    }
    comparisons = compare_pairs(estimate_jointly(scores), 0.95, 0.01, draws=500)
    for each in comparisons:
        assert -1 <= each.difference.low <= each.difference.value <= each.difference.high <= 1
        assert 0 <= each.detectable_half <= each.detectable <= 1
        assert 0 <= each.better <= 1
        assert 0 <= each.equivalent <= 1


def test_the_probability_of_being_better_agrees_with_the_t_distribution() -> None:
    from scipy.stats import t

    one, two = accuracy_of([np.arange(400) < 330]), accuracy_of([np.arange(400) < 320])
    (found,) = compare_pairs({"one": one, "two": two}, 0.95, 0.02)
    spread = np.sqrt((10 / 400**2 * (1 - 10 / 400) * 400 / 399 * 400**2 + 1) / 402**2)
    assert found.better == pytest.approx(t.cdf(0.025 / spread, 399), abs=1e-3)
    within = t.cdf(0.045 / spread, 399) - t.cdf(0.005 / spread, 399)
    assert found.equivalent == pytest.approx(within, abs=2e-3)


def test_losses_of_the_cheapest_rule_are_about_as_probable_as_stated() -> None:
    found = losses(groups=200, seeds=2, studies=120)
    lost = np.mean([loss > 0.01 for loss, _ in found])
    assert 0.1 < lost < 0.6  # far from never, although only 1 point may be given up on val
    assert np.mean([said for _, said in found]) > lost / 3


def test_a_duplicate_adds_no_evidence() -> None:
    single = np.random.default_rng(2).uniform(size=40) < 0.7
    alone = accuracy_of([np.tile(single, 10)])
    grouped = accuracy_of([np.tile(single, 10)], groups=np.tile(np.arange(40), 10))
    assert grouped.image_variance == pytest.approx(10 * alone.image_variance, rel=0.2)


def test_the_image_variance_agrees_with_the_binomial_formula_and_a_bootstrap() -> None:
    from scipy.stats import bootstrap

    right = np.random.default_rng(3).uniform(size=200) < 0.8
    found = accuracy_of([right]).image_variance
    assert found == pytest.approx(right.mean() * (1 - right.mean()) / 199)
    reference = bootstrap((right.astype(float),), np.mean, n_resamples=4000, rng=0)
    assert np.sqrt(found) == pytest.approx(reference.standard_error, rel=0.06)


@pytest.mark.slow
def test_the_variance_of_a_nonlinear_metric_agrees_with_a_bootstrap_over_groups() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(12)
    labels, groups = rng.integers(0, 3, 240), np.repeat(np.arange(120), 2)
    predicted = np.where(rng.uniform(size=240) < 0.7, labels, rng.integers(0, 3, 240))
    score = ClassScores(Groups(groups), labels, predicted[None], 3).macro_f1()
    drawn = [
        np.concatenate([np.flatnonzero(groups == each) for each in rng.integers(120, size=120)])
        for _ in range(1500)
    ]
    values = [f1_score(labels[own], predicted[own], average="macro") for own in drawn]
    assert estimate(score).image_variance == pytest.approx(np.var(values), rel=0.12)


def test_the_variance_of_a_mean_is_estimated_without_bias() -> None:
    """Also for two seeds, where resampling would halve the variance between seeds."""
    rng = np.random.default_rng(4)
    scenario = Scenario(groups=400, seeds=2, accuracy=0.8, spreads=(0.05,) * 4)
    errors, found = [], []
    for _ in range(250):
        study = simulate(scenario, rng)
        tested = np.broadcast_to(study.tested, study.right.shape)
        scores = subset_scores(Groups(study.groups), study.right, tested)
        estimates = estimate_jointly({str(n): score for n, score in enumerate(scores)})
        for each, truth in zip(estimates.values(), study.truth, strict=True):
            errors.append((each.value - truth) ** 2)
            found.append(each.image_variance + each.training_variance)
    assert np.mean(found) == pytest.approx(np.mean(errors), rel=0.15)


def test_seeds_that_agree_by_chance_do_not_give_a_narrow_interval() -> None:
    """Two equal accuracies say little; three other backbones show how much seeds vary."""
    rng = np.random.default_rng(5)
    steady = score_of([np.arange(400) < 320, np.arange(400) < 320])
    others = {
        str(number): score_of([rng.permutation(400) < 320 + 20 * side for side in (-1, 1)])
        for number in range(3)
    }
    alone = share_interval(estimate(steady), 0.95)
    known = share_interval(estimate_jointly({"steady": steady} | others)["steady"], 0.95)
    assert known.high - known.low > 1.3 * (alone.high - alone.low)


def test_differences_between_folds_are_not_training_variance() -> None:
    """With k-fold, each training run has its own test images: a hard fold is not a bad run."""
    right = np.zeros((2, 100), bool)
    right[0, :50] = True
    tested = np.zeros((2, 100), bool)
    tested[0, :50] = tested[1, 50:] = True
    folds = accuracy_of(right, tested=tested)
    assert folds.value == 0.5
    assert folds.training_variance == 0
    assert folds.dof == np.inf
    assert not folds.includes_training_variance
    both = accuracy_of([right[0], ~right[0]])
    assert both.includes_training_variance


@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_is_not_certainty(right: bool) -> None:
    """The interval is Clopper and Pearson's for the number of groups, as in scipy."""
    estimate = accuracy_of(np.full((2, 32), right), groups=np.arange(32) // 2)
    interval = share_interval(estimate, 0.95)
    reference = binomtest(16 if right else 0, 16).proportion_ci(0.95, "exact")
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high))


def test_one_seed_without_duplicates_gives_wilsons_interval() -> None:
    estimate = accuracy_of([np.arange(300) < 282])
    interval = share_interval(estimate, 0.95)
    reference = binomtest(282, 300).proportion_ci(0.95, "wilson")
    assert interval.low == pytest.approx(reference.low, abs=0.001)
    assert interval.high == pytest.approx(reference.high, abs=0.001)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 30), st.floats(0, 1), st.integers(0, 2**31))
def test_an_interval_of_a_proportion_lies_in_0_to_1_and_contains_the_estimate(
    seeds: int, groups: int, accuracy: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    right = rng.uniform(size=(seeds, 2 * groups)) < accuracy
    estimate = accuracy_of(right, groups=np.arange(2 * groups) // 2)
    interval = share_interval(estimate, 0.95)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.low < interval.high


def test_two_backbones_with_the_same_predictions_may_still_differ() -> None:
    """With no discordant image among 60, a difference of up to about 3 of 60 may be missed."""
    same = accuracy_of([np.arange(60) % 3 > 0])
    (comparison,) = compare_pairs(
        {"one": same, "two": accuracy_of([np.arange(60) % 3 > 0])}, 0.95, 0.01
    )
    assert comparison.difference.value == 0
    assert 0.01 < comparison.difference.high < 3 / 60
    assert comparison.p_value == 1


def test_a_single_pair_agrees_with_mcnemars_test() -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    one, two = np.ones(400, bool), np.ones(400, bool)
    one[:12], two[5:40] = False, False
    table = [[np.sum(one & two), np.sum(one & ~two)], [np.sum(~one & two), np.sum(~one & ~two)]]
    reference = mcnemar(table, exact=False, correction=False).pvalue
    estimates = {name: accuracy_of([right]) for name, right in (("one", one), ("two", two))}
    assert compare_pairs(estimates, 0.95, 0.01)[0].p_value == pytest.approx(reference, abs=0.003)


def family(rng: np.random.Generator, backbones: int = 5) -> dict[str, Estimate]:
    hard = rng.normal(size=150)
    rows = hard + rng.normal(size=(backbones, 150)) + rng.uniform(0.3, 1.3, (backbones, 1))
    scores = subset_scores(
        Groups(np.arange(150)), rows[:, None] > 0, np.ones((backbones, 1, 150), bool)
    )
    return estimate_jointly({str(number): score for number, score in enumerate(scores)})


def test_corrected_p_values_match_the_intervals_and_do_not_exceed_bonferronis() -> None:
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(6)
    decided = 0
    for _ in range(20):
        comparisons = compare_pairs(family(rng), 0.95, 0.01)
        single = np.array([each.p_value for each in comparisons])
        corrected = np.array([each.p_adjusted for each in comparisons])
        assert len(comparisons) == 10
        assert [each.significant for each in comparisons] == (corrected <= 0.05).tolist()
        assert (corrected >= single).all()
        bonferroni = multipletests(single, method="bonferroni")[1]
        assert (corrected <= bonferroni + 0.002).all()  # the noise of the draws
        decided += sum(each.significant for each in comparisons)
    assert 0 < decided < 200


@pytest.mark.slow
def test_the_detectable_difference_is_found_in_80_of_100_studies() -> None:
    rng = np.random.default_rng(7)

    def study(difference: float) -> Any:
        """Compare two backbones: both are right on 60 % of 400 images, exactly one on 30 %."""
        which = rng.uniform(size=400)
        one = which < 0.75 + difference / 2
        two = (which < 0.6) | (which > 0.75 + difference / 2) & (which < 0.9)
        return compare_pairs({"one": accuracy_of([one]), "two": accuracy_of([two])}, 0.95, 0.01)[0]

    detectable = float(np.median([study(0.0).detectable for _ in range(30)]))
    half = float(np.median([study(0.0).detectable_half for _ in range(30)]))
    power = [np.mean([study(each).significant for _ in range(300)]) for each in (detectable, half)]
    assert 0.72 <= power[0] <= 0.88
    assert 0.42 <= power[1] <= 0.58


def test_class_scores_of_every_training_run_agree_with_scikit_learn() -> None:
    from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

    rng = np.random.default_rng(8)
    labels = rng.integers(0, 4, 120)
    predicted = np.where(rng.uniform(size=(3, 120)) < 0.6, labels, rng.integers(0, 4, (3, 120)))
    scores = ClassScores(Groups(np.arange(120)), labels, predicted, 4)
    for seed, row in enumerate(predicted):
        by_class = [scores.recall(index).by_training[seed] for index in range(4)]
        assert by_class == pytest.approx(recall_score(labels, row, average=None))
        assert scores.macro_f1().by_training[seed] == pytest.approx(
            f1_score(labels, row, average="macro")
        )
        assert scores.balanced_accuracy().by_training[seed] == pytest.approx(
            balanced_accuracy_score(labels, row)
        )


def test_leaving_out_a_group_gives_the_score_of_the_other_images() -> None:
    rng = np.random.default_rng(9)
    labels, groups = rng.integers(0, 3, 50), rng.integers(0, 20, 50)
    predicted = rng.integers(0, 3, (1, 50))
    known = Groups(groups)
    others = groups != np.unique(groups)[7]
    measured = measure(np.eye(3)[predicted[0, others]], labels[others], ["a", "b", "c"], bins=2)
    scores = ClassScores(known, labels, predicted, 3)
    assert scores.macro_f1().left_out[7, 0] == pytest.approx(measured["macro_f1"])
    assert scores.balanced_accuracy().left_out[7, 0] == pytest.approx(measured["balanced_accuracy"])
    assert scores.accuracy().left_out[7, 0] == pytest.approx(measured["accuracy"])


def test_folds_pool_their_counts_for_metrics_that_are_not_means() -> None:
    """With three folds and two seeds per fold, macro F1 is that of all images together."""
    from sklearn.metrics import balanced_accuracy_score, f1_score

    rng = np.random.default_rng(13)
    labels, fold = rng.integers(0, 5, 60), np.arange(60) % 3
    answers = np.where(rng.uniform(size=(2, 60)) < 0.4, labels, rng.integers(0, 5, (2, 60)))
    predicted = np.where(fold == np.arange(6)[:, None] % 3, answers[np.arange(6) // 3], UNTESTED)
    scores = ClassScores(Groups(np.arange(60)), labels, predicted, 5)
    f1 = [f1_score(labels, own, average="macro") for own in answers]
    assert estimate(scores.macro_f1()).value == pytest.approx(np.mean(f1))
    assert scores.macro_f1().by_training == pytest.approx(f1)
    balanced = [balanced_accuracy_score(labels, own) for own in answers]
    assert estimate(scores.balanced_accuracy()).value == pytest.approx(np.mean(balanced))
    assert estimate(scores.accuracy()).value == pytest.approx((answers == labels).mean())


def test_the_accuracy_for_another_class_mix_is_that_of_reweighted_images() -> None:
    rng = np.random.default_rng(14)
    labels = np.repeat(np.arange(3), [60, 30, 10])
    predicted = np.where(rng.uniform(size=(2, 100)) < 0.6, labels, (labels + 1) % 3)
    scores = ClassScores(Groups(np.arange(100)), labels, predicted, 3)
    mix = np.array([0.1, 0.2, 0.7])
    weights = (mix / np.bincount(labels))[labels]
    expected = ((predicted == labels) @ weights).mean()
    assert estimate(scores.accuracy(mix)).value == pytest.approx(expected)
    one = ClassScores(Groups(np.arange(100)), labels, predicted[:1], 3)
    plain, heavy = (share_interval(estimate(one.accuracy(each)), 0.95) for each in (None, mix))
    assert heavy.high - heavy.low > plain.high - plain.low  # ten images decide most of it
    tested = np.bincount(labels) / 100
    alike = share_interval(estimate(one.accuracy(tested)), 0.95)
    assert (alike.low, alike.high) == pytest.approx((plain.low, plain.high), abs=0.002)


def test_a_class_mix_that_does_not_match_the_classes_is_rejected(tmp_path: Path) -> None:
    assert class_shares("tested", ["a", "b"]) is None
    with pytest.raises(CarbenchError, match=r"no class 'c'; no share for 'b'"):
        class_shares({"a": 0.5, "c": 0.5}, ["a", "b"])
    with pytest.raises(ValueError, match=r"sum to 0\.9, not to 1"):
        ChooseParams(**CHOOSE.model_dump() | {"deployment_mix": {"a": 0.5, "b": 0.4}})


def test_temperature_scaling_of_probabilities_equals_that_of_logits() -> None:
    from scipy.special import softmax

    logits = np.random.default_rng(10).normal(0, 2, (50, 4))
    assert apply_temperature(softmax(logits, 1), 1.7) == pytest.approx(
        softmax(logits / 1.7, 1), abs=1e-5
    )
    certain = apply_temperature(np.array([[1.0, 0.0, 0.0]]), 2.0)
    assert np.isfinite(certain).all()
    assert certain.sum() == pytest.approx(1)


def test_equal_mass_bins_agree_with_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(11)
    sure = rng.uniform(size=(1, 500))
    right = rng.uniform(size=(1, 500)) < sure
    members = equal_mass_bins(sure, np.ones_like(right), 10)
    share, confidence = calibration_curve(right[0], sure[0], n_bins=10, strategy="quantile")
    assert [right[member].mean() for member in members] == pytest.approx(share)
    assert [sure[member].mean() for member in members] == pytest.approx(confidence)


ABOUT = Interval(3.0, 2.0, 4.0)
COST = Cost(
    **{"model": "m", "parameters": 1, "macs": 2, "onnx_bytes": 3, "memory_mb": 5.0},
    **{"latency_ms": ABOUT, "end_to_end_ms": ABOUT, "torch_ms": ABOUT},
    **{"by_round": (3.0,) * 6, "runtime": "ONNX Runtime", "machine": "Abacus"},
)


def said(right: Any) -> pd.DataFrame:
    """Return a table of predictions: alternating classes a and b, one image per group."""
    right = np.asarray(right, bool)
    labels = np.array(["a", "b"])[np.arange(len(right)) % 2]
    return pd.DataFrame(
        {
            "image": [f"{number}.jpg" for number in range(len(right))],
            "class": labels,
            "group": range(len(right)),
            "predicted": np.where(right, labels, np.where(labels == "a", "b", "a")),
            "p:a": 0.5,
            "p:b": 0.5,
        }
    )


def answers_of(tables: dict[str, list[pd.DataFrame]]) -> AlignedPredictions:
    return align(tables, {name: [Path(name)] * len(own) for name, own in tables.items()})


def chosen(right: dict[str, Any], macs: dict[str, int], params: ChooseParams) -> str:
    answers = answers_of({name: [said(each)] for name, each in right.items()})
    costs = {name: replace(COST, macs=macs[name]) for name in right}
    (found,) = (each for each in choose(answers, costs, params) if each.chosen)
    return found.backbone


@pytest.mark.parametrize(
    ("images", "small_wrong", "params", "expected"),
    [
        (400, 43, CHOOSE, "small"),  # 0.75 points behind: within the margin
        (400, 50, CHOOSE, "large"),  # 2.5 points behind: val cannot tell, but it is no equal
        (400, 50, CHOOSE.model_copy(update={"margin": 0.05}), "small"),
        (400, 43, CHOOSE.model_copy(update={"ties": "best"}), "large"),
        # 0.75 points of many images: within the margin, but certainly worse.
        (40_000, 4300, CHOOSE, "large"),
    ],
)
def test_a_cheaper_backbone_is_chosen_only_if_tied_and_within_the_margin(
    images: int, small_wrong: int, params: ChooseParams, expected: str
) -> None:
    large = np.arange(images) >= images // 10
    small = np.arange(images) < images - small_wrong  # they err on different images
    assert chosen({"large": large, "small": small}, {"large": 9, "small": 1}, params) == expected


def test_ranked_backbones_state_how_far_behind_the_best_they_are() -> None:
    right = {"bad": np.arange(400) < 200, "good": np.arange(400) < 320}
    answers = answers_of({name: [said(each)] * 2 for name, each in right.items()})
    candidates = choose(answers, dict.fromkeys(right, COST), CHOOSE)
    good, bad = candidates
    assert (good.backbone, good.chosen, good.tied, good.behind.value) == ("good", True, True, 0)
    assert (bad.tied, bad.eligible, bad.behind.value) == (False, False, pytest.approx(0.3))
    assert bad.p_adjusted < 0.01
    assert bad.accuracy.low < 0.5 < bad.accuracy.high
    why = "chose good, the best on val; val accuracy 80.0 %"
    assert describe_choice(candidates, CHOOSE).startswith(why)


def test_backbones_tested_on_different_images_are_rejected() -> None:
    with pytest.raises(CarbenchError, match="images that differ from those of another backbone"):
        answers_of({"one": [said([True] * 6)], "two": [said([True] * 5)]})


def test_a_damaged_table_is_reported_without_a_traceback(tmp_path: Path) -> None:
    file = tmp_path / "val.csv"
    for content, words in (
        ("", "No columns"),
        ("image,class\n1,2\n", "no column group, predicted"),
    ):
        file.write_text(content)
        with pytest.raises(CarbenchError, match=words):
            read_tables({"one": [file]})
    with pytest.raises(CarbenchError, match="found nothing"):
        read_tables({"one": [tmp_path / "absent.csv"]})


def test_predictions_of_different_folds_are_aligned_by_image() -> None:
    whole = said([True, False] * 10)
    answers = answers_of({"one": [whole[:8], whole[8:]], "two": [whole[:8][::-1], whole[8:]]})
    assert answers.tested("one").sum(axis=1).tolist() == [8, 12]
    assert (answers.predicted["one"] == answers.predicted["two"]).all()
    assert (answers.predicted["one"][0, 8:] == UNTESTED).all()
    assert answers.correct("one").sum() == 10


def write_runs(folder: Path, right: dict[str, list[Any]], leaked: int = 0) -> None:
    """Write the outputs of stage evaluate for (S, N) correct or wrong predictions per backbone."""
    for name, own in right.items():
        for seed, row in enumerate(own):
            place = folder / name / str(seed)
            place.mkdir(parents=True)
            table = said(row)
            sure = 0.6 + 0.3 * np.arange(len(table)) / len(table)
            table["p:a"] = np.where(table["predicted"] == "a", sure, 1 - sure)
            table["p:b"] = 1 - table["p:a"]
            table["confidence"] = sure
            table["leaked"] = (np.arange(len(table)) < leaked).astype(int)
            table["width"], table["height"] = 100 + np.arange(len(table)), 100
            table.to_csv(place / "predictions.csv", index=False)
            clean = table[table["leaked"] == 0]
            blurred = clean.assign(corruption="blur", predicted="a")
            blurred.to_csv(place / "robustness.csv", index=False)
            wrong = clean[clean["class"] != clean["predicted"]].sort_values(
                "confidence", ascending=False
            )
            wrong[["image", "class", "group", "predicted", "confidence"]].head(3).to_csv(
                place / "mistakes.csv", index=False
            )
            marks = wrong.index[:3].to_numpy(np.uint8)
            maps = np.broadcast_to(marks[:, None, None], (len(marks), 4, 4))
            np.savez(place / "explanations.npz", images=np.stack([maps] * 3, -1), maps=maps)
            pd.Series({"temperature": 2.0}).to_json(place / "metrics.json")


def choice_of(*names: str) -> list[dict[str, str]]:
    values = {"seed": "0", "val_accuracy": "0.7", "val_low": "0.6", "val_high": "0.8"}
    return [{"backbone": name, "chosen": str(int(name == names[0]))} | values for name in names]


@pytest.fixture
def runs(tmp_path: Path) -> Callable[..., EvaluatedRuns]:
    def make(right: dict[str, list[Any]], leaked: int = 0) -> EvaluatedRuns:
        write_runs(tmp_path, right, leaked)
        return read_runs(tmp_path, list(right), list(range(len(next(iter(right.values()))))))

    return make


def test_val_decides_the_choice_even_against_the_test_results(
    runs: Callable[..., EvaluatedRuns],
) -> None:
    found = runs({"luck": [[True] * 60], "best": [[True, False, False] * 20]})
    groups = Groups(found.aligned.groups)
    costs = {"luck": COST, "best": COST}
    summary, comparisons = summarize(
        found,
        score_backbones(found, groups),
        calibration_intervals(found, groups, 4, 0.95),
        choice_of("best", "luck"),
        costs,
        RULE,
    )
    assert summary["backbone"].tolist() == ["best", "luck"]
    assert summary["tied"].tolist() == [1, 0]
    assert summary["training_noise"].tolist() == [0, 0]
    assert comparisons[0].difference.value == pytest.approx(-2 / 3)
    assert comparisons[0].difference.high < 0
    numbers = summary_metrics(summary, comparisons)
    assert numbers["chosen"] == "best"
    assert numbers["tied"] == "none"
    assert numbers["detectable"] == round(comparisons[0].detectable, 4)


def test_the_leak_gap_is_what_leaked_images_add_to_the_accuracy(
    runs: Callable[..., EvaluatedRuns],
) -> None:
    found = runs({"one": [[True] * 20 + [True, False, False, True] * 10] * 2}, leaked=20)
    groups = Groups(found.aligned.groups)
    summary, comparisons = summarize(
        found,
        score_backbones(found, groups),
        calibration_intervals(found, groups, 4, 0.95),
        choice_of("one"),
        {"one": COST},
        RULE,
    )
    row = summary.iloc[0]
    assert (row["accuracy"], row["leaked_accuracy"]) == (0.5, 1)
    assert row["published_accuracy"] == pytest.approx(40 / 60)
    assert row["leak_gap"] == pytest.approx(40 / 60 - 0.5)
    assert row["leak_gap_low"] < row["leak_gap"] < row["leak_gap_high"]
    assert row["accuracy_low"] < 0.5 < row["accuracy_high"]
    assert row["leaked_high"] == 1
    # Half of the leaked and half of the clean images are of either class: the mix is the same.
    assert row["clean_as_published"] == pytest.approx(0.5)
    assert comparison_table(comparisons).empty
    assert summary_metrics(summary, comparisons)["detectable"] is None


def test_the_leak_gap_compares_accuracies_for_the_same_class_mix(
    runs: Callable[..., EvaluatedRuns],
) -> None:
    """If leaked images are only of an easier class, but not classified better, the gap is zero."""
    right = np.arange(60) % 2 == 0  # class a, the even images, always; class b never
    found = runs({"one": [right] * 2})
    table = found.aligned.images
    table["leaked"] = ((np.arange(60) < 40) & (np.arange(60) % 2 == 0)).astype(int)
    summary, _ = summarize(
        found,
        score_backbones(found, Groups(found.aligned.groups)),
        calibration_intervals(found, Groups(found.aligned.groups), 4, 0.95),
        choice_of("one"),
        {"one": COST},
        RULE,
    )
    row = summary.iloc[0]
    assert row["accuracy"] == pytest.approx(10 / 40)
    assert row["published_accuracy"] == 0.5
    assert row["clean_as_published"] == pytest.approx(0.5)
    assert row["leak_gap"] == pytest.approx(0)


def test_recall_robustness_slice_and_reliability_tables_are_correct(
    runs: Callable[..., EvaluatedRuns],
) -> None:
    # Class a (even images) all right, class b never; blur makes all of them an a.
    found = runs({"one": [[True, False] * 30] * 2}, leaked=6)
    groups = Groups(found.aligned.groups)
    judged = score_backbones(found, groups)
    recall = recall_table(found, {"one": judged["one"].clean}, 0.95)
    assert recall[["class", "images", "recall"]].values.tolist() == [["a", 27, 1.0], ["b", 27, 0.0]]
    exact = binomtest(27, 27).proportion_ci(0.95, "exact").low
    assert recall["low"].tolist() == pytest.approx([exact, 0])
    robust = robustness_table(found, groups, 0.95)
    assert robust["corruption"].tolist() == ["none", "blur"]
    assert robust["accuracy"].tolist() == [0.5, 0.5]
    assert robust["drop"].tolist() == [0, 0]
    assert robust["drop_high"].tolist()[1] < 0.1  # paired: the same images are right
    sizes = slice_table(found, groups, 0.95)
    assert sizes["images"].tolist() == [18, 18, 18]
    assert sizes["value"].str.split().str[0].tolist() == ["small", "medium", "large"]
    reliability = reliability_table(found, groups, 4, 0.95)
    assert reliability["images"].tolist() == [27] * 8
    raw, tempered = reliability[:4], reliability[4:]
    assert raw["confidence"].mean() > tempered["confidence"].mean() > 0.5  # temperature 2
    assert (reliability["low"] <= reliability["accuracy"]).all()


def test_loss_and_calibration_error_agree_with_the_predictions(
    runs: Callable[..., EvaluatedRuns],
) -> None:
    found = runs({"one": [np.arange(60) % 5 > 0, np.arange(60) % 4 > 0]}, leaked=10)
    intervals = calibration_intervals(found, Groups(found.aligned.groups), 4, 0.95)["one"]
    expected: dict[str, list[float]] = {"": [], "_calibrated": []}
    for table in found.predictions["one"]:
        clean = table[table["leaked"] == 0]
        probabilities = clean[["p:a", "p:b"]].to_numpy()
        labels = (clean["class"] == "b").to_numpy().astype(int)
        for suffix, each in (
            ("", probabilities),
            ("_calibrated", apply_temperature(probabilities, 2.0)),
        ):
            numbers = measure_calibration(each, labels, 4)
            expected[suffix].append([numbers["nll"], numbers["ece"]])
    for suffix, values in expected.items():
        for name, value in zip(("nll", "ece"), np.mean(values, axis=0), strict=True):
            interval = intervals[f"{name}{suffix}"]
            assert interval.value == pytest.approx(value, abs=1e-6)
            assert 0 <= interval.low < value < interval.high


def test_only_held_out_images_are_listed_as_label_errors(
    runs: Callable[..., EvaluatedRuns], tmp_path: Path
) -> None:
    """Val images are included, leaked ones are not; training runs are averaged."""
    surest = [*[True] * 20, False, False, *[True] * 37, False]
    found = runs({"one": [surest, surest]}, leaked=21)
    for seed in (0, 1):
        folder = tmp_path / "train/one" / str(seed)
        folder.mkdir(parents=True)
        val = said([True] * 9 + [False]).assign(image=[f"val/{n}.jpg" for n in range(10)])
        val["p:a"] = np.where(val["predicted"] == "a", 0.97, 0.03)
        val.assign(**{"p:b": 1 - val["p:a"]}).to_csv(folder / "val.csv", index=False)
    table = label_error_table(found, tmp_path / "train", "one")
    # Image 20 is leaked.
    assert table[["image", "class", "suggested", "part"]].values.tolist() == [
        ["val/9.jpg", "b", "a", "val"],
        ["59.jpg", "b", "a", "test"],
    ]
    assert table["score"].is_monotonic_increasing
    assert table["trainings"].tolist() == [2, 2]
    assert table["score"][0:1].item() == pytest.approx(
        apply_temperature(np.array([[0.03, 0.97]]), 2.0)[0, 0]
    )


def test_mistakes_are_shown_once_per_group_with_their_own_image(
    runs: Callable[..., EvaluatedRuns],
) -> None:
    found = runs({"one": [[True, False] * 10, [True, False, False, False] * 5]})
    table, arrays = collect_mistakes(found, "one")
    assert table["image"].is_unique
    assert table["confidence"].is_monotonic_decreasing
    assert table["row"].tolist() == list(range(len(table)))
    marks = [int(image.removesuffix(".jpg")) for image in table["image"]]
    assert arrays["maps"][:, 0, 0].tolist() == marks
    assert arrays["images"].shape == (len(table), 4, 4, 3)
    seeds_wrong = dict(zip(table["image"], table["seeds_wrong"], strict=True))
    assert (seeds_wrong["19.jpg"], seeds_wrong["18.jpg"]) == (2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("splits", [1, 2])
def test_choose_calibrate_and_aggregate_run_as_scripts(
    splits: int, study: Callable[..., Path], tmp_path: Path
) -> None:
    """Run on simulated results of the smoke study's backbones."""
    seeds = [0] if splits == 1 else [0, 1, 2, 3]
    right = {
        "resnet": [np.arange(60) % 5 > 0] * len(seeds),
        "mobilenet": [np.arange(60) % 2 > 0] * len(seeds),
    }
    write_runs(tmp_path / "evaluate", right)
    for name, own in right.items():
        for seed in seeds:
            folder = tmp_path / "train" / name / str(seed)
            folder.mkdir(parents=True)
            said(own[seed]).assign(confidence=0.5).to_csv(folder / "val.csv", index=False)
            save_model(folder / "model.safetensors", {}, {"temperature": 2.0})
            (folder / "history.csv").write_text("epoch,val_accuracy,chosen\n1,0.5,1\n")
    write_costs(tmp_path / "cost", dict.fromkeys(right, [3.0] * 6))
    params = study({"split.repeats": splits, "seeds": seeds})
    shared = ["--params", params, "--train", tmp_path / "train", "--cost", tmp_path / "cost"]
    choice = tmp_path / "choose/choice.csv"
    done = run_script("choose", *shared, "--output", choice)
    assert done.returncode == 0, done.stderr
    assert "chose resnet, the best on val" in done.stderr
    thresholds = tmp_path / "calibrate/thresholds.csv"
    done = run_script("calibrate", *shared[:4], "--output", thresholds)
    assert done.returncode == 0, done.stderr
    folders = ["--evaluate", tmp_path / "evaluate", "--choice", choice]
    folders += ["--thresholds", thresholds]
    for name in ("first", "second"):
        done = run_script("aggregate", *shared, *folders, "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert "resnet, chosen on val, has an accuracy of 80.0 %" in done.stderr
    assert "no other backbone is tied with it" in done.stderr
    written = {path.name for path in (tmp_path / "first").iterdir()}
    ignored = (ROOT / "dvc.yaml").read_text()
    assert all(f"results/{name}" in ignored for name in written)
    for name in written:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
