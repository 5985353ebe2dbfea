"""Metrics agree with their definitions; intervals hold the truth; the winner is val's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from coverage import Scenario, coverage, simulate
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from carbench.errors import CarbenchError
from carbench.judging.metrics import calibration_error, measure
from carbench.params.aggregate import AggregateParams
from carbench.params.choose import ChooseParams
from carbench.statistics.answers import UNTESTED, Answers, align, read_tables
from carbench.statistics.bootstrap import Bootstrap, Estimate
from carbench.statistics.breakdowns import recall_table, robustness_table, slice_table
from carbench.statistics.choosing import choose, explain
from carbench.statistics.comparing import compare
from carbench.statistics.gallery import gather_mistakes
from carbench.statistics.intervals import share_interval
from carbench.statistics.reliability import equal_mass, reliability_table, temper
from carbench.statistics.runs import Runs, read_runs
from carbench.statistics.scoring import ClassScores, part_scores
from carbench.statistics.summarizing import comparison_table, headline, judge, summarize
from conftest import ROOT, run_script

PARAMS = AggregateParams(confidence=0.95, resamples=1000, seed=0)
CHOOSE = ChooseParams(
    ties="cheapest", cost="macs", margin=0.01, confidence=0.95, resamples=1000, seed=0
)


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


def accuracy_of(
    right: Any, groups: Any = None, tested: Any = None, resamples: int = 1000
) -> Estimate:
    """The accuracy of (seeds, N) right or wrong, as an estimate."""
    right = np.asarray(right, bool)
    groups = np.arange(right.shape[1]) if groups is None else np.asarray(groups)
    tested = np.ones_like(right) if tested is None else tested
    return part_scores(Bootstrap(groups, resamples, 0), right, tested[None])[0].estimate()


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(groups=150, seeds=1, accuracy=0.8, spread=0.01),
        Scenario(groups=150, seeds=3, accuracy=0.8, spread=0.02),
        Scenario(groups=150, seeds=10, accuracy=0.7, spread=0.01, folds=5),
    ],
    ids=str,
)
def test_intervals_hold_the_truth_as_often_as_they_say(scenario: Scenario) -> None:
    """A quick version of benchmarks/coverage.py; the bounds allow for 150 studies only."""
    accuracies, pairs, family = coverage(scenario, studies=150, resamples=200)
    assert 0.92 <= accuracies <= 0.98
    assert 0.92 <= pairs <= 0.99
    assert 0.90 <= family <= 0.99


def test_a_twin_is_no_further_evidence() -> None:
    single = np.random.default_rng(2).uniform(size=40) < 0.7
    alone = accuracy_of([np.tile(single, 10)])
    grouped = accuracy_of([np.tile(single, 10)], groups=np.tile(np.arange(40), 10))
    assert grouped.picture_variance == pytest.approx(10 * alone.picture_variance, rel=0.2)


def test_the_picture_variance_is_the_binomial_one_and_scipys_bootstrap_agrees() -> None:
    from scipy.stats import bootstrap

    right = np.random.default_rng(3).uniform(size=200) < 0.8
    found = accuracy_of([right], resamples=4000).picture_variance
    assert found == pytest.approx(right.mean() * (1 - right.mean()) / 199, rel=0.08)
    reference = bootstrap((right.astype(float),), np.mean, n_resamples=4000, rng=0)
    assert np.sqrt(found) == pytest.approx(reference.standard_error, rel=0.06)


def test_the_variance_between_trainings_is_estimated_without_bias() -> None:
    """Also for two seeds, where resampling them as they are would give half of it."""
    dice = np.random.default_rng(4)
    scenario = Scenario(groups=400, seeds=2, accuracy=0.8, spread=0.05)
    found = []
    for _ in range(150):
        study = simulate(scenario, dice)
        tested = np.broadcast_to(study.tested, study.right.shape)
        scores = part_scores(Bootstrap(study.groups, 150, 0), study.right, tested)
        found += [score.estimate().training_variance for score in scores]
    assert np.mean(found) == pytest.approx(0.05**2 / 2, rel=0.2)


def test_trainings_that_differ_by_their_pictures_only_add_no_variance() -> None:
    """In a k-fold split each training has pictures of its own; a hard fold is no bad training."""
    right = np.zeros((2, 100), bool)
    right[0, :50] = True
    tested = np.zeros((2, 100), bool)
    tested[0, :50] = tested[1, 50:] = True
    folds = accuracy_of(right, tested=tested)
    assert folds.value == 0.5
    assert folds.training_variance == 0
    assert not folds.knows_trainings
    both = accuracy_of([right[0], ~right[0]])
    assert both.knows_trainings


@pytest.mark.parametrize("right", [True, False])
def test_all_right_is_not_certainty(right: bool) -> None:
    """Clopper and Pearson, as scipy has it, counting groups."""
    estimate = accuracy_of(np.full((2, 32), right), groups=np.arange(32) // 2)
    interval = share_interval(estimate, 0.95)
    reference = binomtest(16 if right else 0, 16).proportion_ci(0.95, "exact")
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high))


def test_one_seed_without_twins_gives_wilsons_interval() -> None:
    estimate = accuracy_of([np.arange(300) < 282], resamples=4000)
    interval = share_interval(estimate, 0.95)
    reference = binomtest(282, 300).proportion_ci(0.95, "wilson")
    assert interval.low == pytest.approx(reference.low, abs=0.003)
    assert interval.high == pytest.approx(reference.high, abs=0.003)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 30), st.floats(0, 1), st.integers(0, 2**31))
def test_an_interval_of_a_share_lies_between_0_and_1_and_holds_it(
    seeds: int, groups: int, accuracy: float, seed: int
) -> None:
    dice = np.random.default_rng(seed)
    right = dice.uniform(size=(seeds, 2 * groups)) < accuracy
    estimate = accuracy_of(right, groups=np.arange(2 * groups) // 2, resamples=100)
    interval = share_interval(estimate, 0.95)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.low < interval.high


def test_two_backbones_that_answer_alike_may_still_differ() -> None:
    """No discordant picture of 60: differences up to about 3 of 60 could have gone unnoticed."""
    same = accuracy_of([np.arange(60) % 3 > 0])
    (comparison,) = compare({"one": same, "two": same}, 0.95, 0)
    assert comparison.difference.value == 0
    assert 0.01 < comparison.difference.high < 3 / 60
    assert comparison.p_value == 1


def test_a_single_pair_agrees_with_mcnemar() -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    one, two = np.ones(400, bool), np.ones(400, bool)
    one[:12], two[5:40] = False, False
    table = [[np.sum(one & two), np.sum(one & ~two)], [np.sum(~one & two), np.sum(~one & ~two)]]
    reference = mcnemar(table, exact=False, correction=False).pvalue
    estimates = {
        name: accuracy_of([right], resamples=4000) for name, right in (("one", one), ("two", two))
    }
    assert compare(estimates, 0.95, 0)[0].p_value == pytest.approx(reference, abs=0.003)


def family(dice: np.random.Generator, backbones: int = 5) -> dict[str, Estimate]:
    hard = dice.normal(size=150)
    rows = hard + dice.normal(size=(backbones, 150)) + dice.uniform(0.3, 1.3, (backbones, 1))
    bootstrap = Bootstrap(np.arange(150), 999, 0)
    scores = part_scores(bootstrap, rows[:, None] > 0, np.ones((backbones, 1, 150), bool))
    return {str(number): score.estimate() for number, score in enumerate(scores)}


def test_corrected_p_values_agree_with_the_intervals_and_lie_between_none_and_bonferroni() -> None:
    from statsmodels.stats.multitest import multipletests

    dice = np.random.default_rng(6)
    decided = 0
    for _ in range(20):
        comparisons = compare(family(dice), 0.95, 0)
        single = np.array([each.p_value for each in comparisons])
        corrected = np.array([each.p_adjusted for each in comparisons])
        assert len(comparisons) == 10
        assert [each.significant for each in comparisons] == (corrected <= 0.05).tolist()
        assert (corrected >= single).all()
        bonferroni = multipletests(single, method="bonferroni")[1]
        assert (corrected <= bonferroni + 0.02).all()  # the noise of 999 resamples
        decided += sum(each.significant for each in comparisons)
    assert 0 < decided < 200


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    dice = np.random.default_rng(7)

    def study(difference: float) -> Any:
        """Two backbones: both right on 60 % of 400 pictures, either on 30 %, by their accuracy."""
        which = dice.uniform(size=400)
        one = which < 0.75 + difference / 2
        two = (which < 0.6) | (which > 0.75 + difference / 2) & (which < 0.9)
        bootstrap = Bootstrap(np.arange(400), 300, 0)
        scores = part_scores(bootstrap, np.stack([one, two])[:, None], np.ones((2, 1, 400), bool))
        estimates = {"one": scores[0].estimate(), "two": scores[1].estimate()}
        return compare(estimates, 0.95, 0)[0]

    detectable = float(np.median([study(0.0).detectable for _ in range(30)]))
    power = np.mean([study(detectable).significant for _ in range(300)])
    assert 0.72 <= power <= 0.88


def test_a_score_by_class_is_scikit_learns_of_every_training() -> None:
    from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

    dice = np.random.default_rng(8)
    labels = dice.integers(0, 4, 120)
    predicted = np.where(dice.uniform(size=(3, 120)) < 0.6, labels, dice.integers(0, 4, (3, 120)))
    scores = ClassScores(Bootstrap(np.arange(120), 200, 0), labels, predicted, 4)
    for seed, row in enumerate(predicted):
        by_class = [scores.recall(index).by_training[seed] for index in range(4)]
        assert by_class == pytest.approx(recall_score(labels, row, average=None))
        assert scores.macro_f1().by_training[seed] == pytest.approx(
            f1_score(labels, row, average="macro")
        )
        assert scores.balanced_accuracy().by_training[seed] == pytest.approx(
            balanced_accuracy_score(labels, row)
        )


def test_resampled_scores_are_those_of_the_resampled_pictures() -> None:
    dice = np.random.default_rng(9)
    labels, groups = dice.integers(0, 3, 50), dice.integers(0, 20, 50)
    predicted = dice.integers(0, 3, (1, 50))
    bootstrap = Bootstrap(groups, 100, 0)
    identity = bootstrap.totals(np.eye(50, dtype=np.float32))  # how often each picture is drawn
    drawn = np.repeat(np.arange(50), identity[7].astype(int))
    measured = measure(np.eye(3)[predicted[0, drawn]], labels[drawn], ["a", "b", "c"], bins=2)
    scores = ClassScores(bootstrap, labels, predicted, 3)
    assert scores.macro_f1().resampled[7, 0] == pytest.approx(measured["macro_f1"])
    assert scores.accuracy().resampled[7, 0] == pytest.approx(measured["accuracy"])


def test_another_temperature_is_that_of_the_logits() -> None:
    from scipy.special import softmax

    logits = np.random.default_rng(10).normal(0, 2, (50, 4))
    assert temper(softmax(logits, 1), 1.7) == pytest.approx(softmax(logits / 1.7, 1), abs=1e-5)
    certain = temper(np.array([[1.0, 0.0, 0.0]]), 2.0)
    assert np.isfinite(certain).all()
    assert certain.sum() == pytest.approx(1)


def test_bins_of_equal_mass_are_scikit_learns() -> None:
    from sklearn.calibration import calibration_curve

    dice = np.random.default_rng(11)
    sure = dice.uniform(size=(1, 500))
    right = dice.uniform(size=(1, 500)) < sure
    members = equal_mass(sure, np.ones_like(right), 10)
    share, confidence = calibration_curve(right[0], sure[0], n_bins=10, strategy="quantile")
    assert [right[member].mean() for member in members] == pytest.approx(share)
    assert [sure[member].mean() for member in members] == pytest.approx(confidence)


COST = {
    "model": "m",
    "parameters": 1,
    "macs": 2,
    "latency_ms": {"median": 3.0},
    "throughput": 4.0,
    "peak_memory_mb": 5.0,
    "device": "cpu",
}


def said(right: Any) -> pd.DataFrame:
    """A table of predictions: classes a and b in turn, a picture a group."""
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


def answers_of(tables: dict[str, list[pd.DataFrame]]) -> Answers:
    return align(tables, {name: [Path(name)] * len(own) for name, own in tables.items()})


def chosen(right: dict[str, Any], macs: dict[str, int], params: ChooseParams) -> str:
    answers = answers_of({name: [said(each)] for name, each in right.items()})
    costs = {name: COST | {"macs": macs[name]} for name in right}
    (found,) = (each for each in choose(answers, costs, params) if each.chosen)
    return found.backbone


@pytest.mark.parametrize(
    ("pictures", "small_wrong", "params", "expected"),
    [
        (400, 43, CHOOSE, "small"),  # 0.75 points behind: within the margin
        (400, 50, CHOOSE, "large"),  # 2.5 points behind: val cannot tell, but it is no equal
        (400, 50, CHOOSE.model_copy(update={"margin": 0.05}), "small"),
        (400, 43, CHOOSE.model_copy(update={"ties": "best"}), "large"),
        # 0.75 points of many pictures: within the margin, but certainly worse.
        (40_000, 4300, CHOOSE, "large"),
    ],
)
def test_a_cheaper_backbone_is_chosen_only_if_about_as_good_and_not_told_apart(
    pictures: int, small_wrong: int, params: ChooseParams, expected: str
) -> None:
    large = np.arange(pictures) >= pictures // 10
    small = np.arange(pictures) < pictures - small_wrong  # they err on different pictures
    assert chosen({"large": large, "small": small}, {"large": 9, "small": 1}, params) == expected


def test_the_candidates_say_how_far_behind_the_best_they_are() -> None:
    right = {"bad": np.arange(400) < 200, "good": np.arange(400) < 320}
    answers = answers_of({name: [said(each)] * 2 for name, each in right.items()})
    candidates = choose(answers, dict.fromkeys(right, COST), CHOOSE)
    good, bad = candidates
    assert (good.backbone, good.chosen, good.tied, good.behind.value) == ("good", True, True, 0)
    assert (bad.tied, bad.eligible, bad.behind.value) == (False, False, pytest.approx(0.3))
    assert bad.p_adjusted < 0.01
    assert bad.accuracy.low < 0.5 < bad.accuracy.high
    why = "chose good, the best on val; val accuracy 80.0 %"
    assert explain(candidates, CHOOSE).startswith(why)


def test_backbones_that_were_tested_on_other_pictures_are_refused() -> None:
    with pytest.raises(CarbenchError, match="other pictures than another backbone's"):
        answers_of({"one": [said([True] * 6)], "two": [said([True] * 5)]})


def test_a_damaged_table_is_told_not_traced(tmp_path: Path) -> None:
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


def test_answers_of_folds_stand_side_by_side() -> None:
    whole = said([True, False] * 10)
    answers = answers_of({"one": [whole[:8], whole[8:]], "two": [whole[:8][::-1], whole[8:]]})
    assert answers.tested("one").sum(axis=1).tolist() == [8, 12]
    assert (answers.predicted["one"] == answers.predicted["two"]).all()
    assert (answers.predicted["one"][0, 8:] == UNTESTED).all()
    assert answers.right("one").sum() == 10


def write_runs(folder: Path, right: dict[str, list[Any]], leaked: int = 0) -> None:
    """What stage evaluate writes of each backbone and seed, from right or wrong."""
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
            np.savez(place / "explanations.npz", pictures=np.stack([maps] * 3, -1), maps=maps)
            numbers = {"nll": 0.5, "ece": 0.1, "nll_calibrated": 0.4, "ece_calibrated": 0.05}
            pd.Series({"temperature": 2.0, "clean": numbers}).to_json(place / "metrics.json")


def choice_of(*names: str) -> list[dict[str, str]]:
    values = {"val_accuracy": "0.7", "val_low": "0.6", "val_high": "0.8"}
    return [{"backbone": name, "chosen": str(int(name == names[0]))} | values for name in names]


@pytest.fixture
def runs(tmp_path: Path) -> Callable[..., Runs]:
    def make(right: dict[str, list[Any]], leaked: int = 0) -> Runs:
        write_runs(tmp_path, right, leaked)
        return read_runs(tmp_path, list(right), list(range(len(next(iter(right.values()))))))

    return make


def test_the_choice_is_vals_even_if_test_would_not_have_made_it(
    runs: Callable[..., Runs],
) -> None:
    found = runs({"luck": [[True] * 60], "best": [[True, False, False] * 20]})
    bootstrap = Bootstrap(found.answers.groups, 1000, 0)
    costs = {"luck": COST, "best": COST}
    summary, comparisons = summarize(
        found, judge(found, bootstrap), choice_of("best", "luck"), costs, PARAMS
    )
    assert summary["backbone"].tolist() == ["best", "luck"]
    assert summary["tied"].tolist() == [1, 0]
    assert summary["training_noise"].tolist() == [0, 0]
    assert comparisons[0].difference.value == pytest.approx(-2 / 3)
    assert comparisons[0].difference.high < 0
    numbers = headline(summary, comparisons)
    assert numbers["chosen"] == "best"
    assert numbers["tied"] == "none"
    assert numbers["detectable"] == round(comparisons[0].detectable, 4)


def test_the_leak_gap_is_what_leaked_pictures_add(runs: Callable[..., Runs]) -> None:
    found = runs({"one": [[True] * 20 + [True, False, False, True] * 10] * 2}, leaked=20)
    bootstrap = Bootstrap(found.answers.groups, 1000, 0)
    summary, comparisons = summarize(
        found, judge(found, bootstrap), choice_of("one"), {"one": COST}, PARAMS
    )
    row = summary.iloc[0]
    assert (row["accuracy"], row["leaked_accuracy"]) == (0.5, 1)
    assert row["published_accuracy"] == pytest.approx(40 / 60)
    assert row["leak_gap"] == pytest.approx(40 / 60 - 0.5)
    assert row["leak_gap_low"] < row["leak_gap"] < row["leak_gap_high"]
    assert row["accuracy_low"] < 0.5 < row["accuracy_high"]
    assert row["leaked_high"] == 1
    assert comparison_table(comparisons).empty
    assert headline(summary, comparisons)["detectable"] is None


def test_tables_of_where_a_backbone_is_strong_and_weak(runs: Callable[..., Runs]) -> None:
    # Class a (even pictures) all right, class b never; blur makes all of them an a.
    found = runs({"one": [[True, False] * 30] * 2}, leaked=6)
    bootstrap = Bootstrap(found.answers.groups, 1000, 0)
    judged = judge(found, bootstrap)
    recall = recall_table(found, {"one": judged["one"].clean}, 0.95)
    assert recall[["class", "images", "recall"]].values.tolist() == [["a", 27, 1.0], ["b", 27, 0.0]]
    exact = binomtest(27, 27).proportion_ci(0.95, "exact").low
    assert recall["low"].tolist() == pytest.approx([exact, 0])
    robust = robustness_table(found, bootstrap, 0.95)
    assert robust["corruption"].tolist() == ["none", "blur"]
    assert robust["accuracy"].tolist() == [0.5, 0.5]
    assert robust["drop"].tolist() == [0, 0]
    assert robust["drop_high"].tolist()[1] < 0.1  # paired: the same pictures are right
    sizes = slice_table(found, bootstrap, 0.95)
    assert sizes["images"].tolist() == [18, 18, 18]
    assert sizes["value"].str.split().str[0].tolist() == ["small", "medium", "large"]
    reliability = reliability_table(found, bootstrap, 4, 0.95)
    assert reliability["images"].tolist() == [27] * 8
    raw, tempered = reliability[:4], reliability[4:]
    assert raw["confidence"].mean() > tempered["confidence"].mean() > 0.5  # temperature 2
    assert (reliability["low"] <= reliability["accuracy"]).all()


def test_the_gallery_shows_a_group_once_with_its_own_picture(runs: Callable[..., Runs]) -> None:
    found = runs({"one": [[True, False] * 10, [True, False, False, False] * 5]})
    table, arrays = gather_mistakes(found, "one")
    assert table["image"].is_unique
    assert table["confidence"].is_monotonic_decreasing
    assert table["row"].tolist() == list(range(len(table)))
    marks = [int(image.removesuffix(".jpg")) for image in table["image"]]
    assert arrays["maps"][:, 0, 0].tolist() == marks
    assert arrays["pictures"].shape == (len(table), 4, 4, 3)
    seeds_wrong = dict(zip(table["image"], table["seeds_wrong"], strict=True))
    assert (seeds_wrong["19.jpg"], seeds_wrong["18.jpg"]) == (2, 1)


def test_scripts_choose_and_aggregate(study: Callable[..., Path], tmp_path: Path) -> None:
    """Both stages from files to files, on made-up runs of the smoke study's backbones."""
    right = {"resnet": [np.arange(60) % 5 > 0], "mobilenet": [np.arange(60) % 2 > 0]}
    write_runs(tmp_path / "evaluate", right)
    for name, own in right.items():
        folder = tmp_path / "train" / name / "0"
        folder.mkdir(parents=True)
        said(own[0]).assign(confidence=0.5).to_csv(folder / "val.csv", index=False)
        (folder / "history.csv").write_text("epoch,val_accuracy,chosen\n1,0.5,1\n")
        (tmp_path / "cost").mkdir(exist_ok=True)
        pd.Series(COST).to_json(tmp_path / f"cost/{name}.json")
    shared = ["--params", study(), "--train", tmp_path / "train", "--cost", tmp_path / "cost"]
    choice = tmp_path / "choose/choice.csv"
    done = run_script("choose", *shared, "--output", choice)
    assert done.returncode == 0, done.stderr
    assert "chose resnet, the best on val" in done.stderr
    folders = ["--evaluate", tmp_path / "evaluate", "--choice", choice]
    for name in ("first", "second"):
        done = run_script("aggregate", *shared, *folders, "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert "resnet, chosen on val, has 80.0 %" in done.stderr
    assert "told apart from all others" in done.stderr
    written = {path.name for path in (tmp_path / "first").iterdir()}
    ignored = (ROOT / "dvc.yaml").read_text()
    assert all(f"results/{name}" in ignored for name in written)
    for name in written:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
