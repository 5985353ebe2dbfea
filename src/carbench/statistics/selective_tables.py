"""Tables of when a backbone is sure: risk against coverage, thresholds of val on clean images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from carbench.statistics.confidence_intervals import Interval, share_interval
from carbench.statistics.estimates import Score, estimate_together
from carbench.statistics.evaluated_runs import Runs
from carbench.statistics.jackknife import Groups
from carbench.statistics.reliability import confidences
from carbench.statistics.scores import part_scores, ratio_scores
from carbench.statistics.selective_metrics import (
    Decisions,
    Thresholds,
    decide,
    errors_of,
    judge_answers,
    judge_sets,
)
from carbench.statistics.summary import named

# Shares of the images that are answered, of the points of the risk-coverage curve.
COVERAGES = np.arange(1, 21) / 20


def decisions_of(runs: Runs, backbone: str, thresholds: list[Thresholds]) -> Decisions:
    """Return what the trainings of a backbone make of the clean images."""
    tested = runs.clean & runs.answers.tested(backbone)
    trainings = runs.probabilities(backbone, calibrated=True)
    return decide(runs.answers.labels, tested, trainings, thresholds)


def decision_table(
    groups: Groups,
    decided: dict[str, Decisions],
    thresholds: dict[str, list[Thresholds]],
    confidence: float,
) -> pd.DataFrame:
    """Return decisions.csv: a row a backbone, empty where something was not asked for.

    ``thresholds`` are those of the seeds; ``answered`` is the part of the clean test images above
    them, ``error`` what of that is wrong; ``covered`` the part of the sets that hold the true
    class, ``set_size`` their mean size, ``single`` the part that are one class.
    """
    columns = ["backbone", "max_error", "guaranteed", "thresholds"]
    for name in ("answered", "error"):
        columns += named(name, Interval(0, 0, 0))
    columns += ["set_coverage", "set_thresholds"]
    for name in ("covered", "set_size"):
        columns += named(name, Interval(0, 0, 0))
    columns.append("single")
    answers = judge_answers(groups, _asked(decided, "answered"), confidence)
    sets = judge_sets(groups, _asked(decided, "sizes"), confidence)
    rows = []
    for name, own in decided.items():
        first = thresholds[name][0]
        row: dict[str, Any] = {"backbone": name}
        if name in answers:
            share, error = answers[name]
            row |= {"max_error": first.max_error, "guaranteed": first.confidence}
            row["thresholds"] = " ".join(f"{each.answer:.6g}" for each in thresholds[name])
            row |= named("answered", share) | (named("error", error) if error else {})
        if own.sizes is not None:
            covered, size = sets[name]
            row["set_coverage"] = first.set_coverage
            row["set_thresholds"] = " ".join(f"{each.member:.6g}" for each in thresholds[name])
            row |= named("covered", covered) | named("set_size", size)
            row["single"] = (own.sizes == 1).sum() / own.tested.sum()
        rows.append(row)
    return pd.DataFrame(rows, columns=columns)


def set_table(
    runs: Runs, groups: Groups, decided: dict[str, Decisions], confidence: float
) -> pd.DataFrame:
    """Return sets.csv: of each backbone and class, how many sets hold it and how large they are."""
    columns = ["backbone", "class", "images", *named("covered", Interval(0, 0, 0), short=True)]
    columns.append("set_size")
    labels, classes = runs.answers.labels, runs.answers.classes
    counts = np.bincount(labels[runs.clean], minlength=len(classes))
    present = np.flatnonzero(counts)
    asked = _asked(decided, "sizes")
    of_class = labels == present[:, None]
    scores = {
        name: part_scores(groups, own.covered, own.tested & of_class[:, None])
        for name, own in asked.items()
    }
    estimates = [
        estimate_together({name: own[row] for name, own in scores.items()})
        for row in range(len(present))
    ]
    rows = []
    for name, own in asked.items():
        assert own.sizes is not None
        for row, index in enumerate(present):
            covered = share_interval(estimates[row][name], confidence)
            rows.append(
                {"backbone": name, "class": classes[index], "images": counts[index]}
                | named("covered", covered, short=True)
                | {"set_size": own.sizes[own.tested & of_class[row]].mean()}
            )
    return pd.DataFrame(rows, columns=columns)


def risk_coverage_table(
    runs: Runs,
    groups: Groups,
    decided: dict[str, Decisions],
    thresholds: dict[str, list[Thresholds]],
    confidence: float,
) -> pd.DataFrame:
    """Return risk_coverage.csv: a row a backbone and share of the clean images that is answered.

    Each training answers those that it is surest of, at its temperature; ``error`` is the part of
    them that is wrong, ``threshold`` the mean confidence of the least sure answers. Which images
    are answered is held fixed in the intervals. With a wanted error (``max_error``) a last
    row of each backbone, ``fitted`` 1, is what the thresholds from val come to.
    """
    columns = ["backbone", "coverage", "images", "threshold", "error", "low", "high"]
    columns += ["max_error", "fitted"]
    scores: dict[str, list[Score]] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in decided:
        wanted = {"backbone": name, "max_error": thresholds[name][0].max_error}
        tested = runs.clean & runs.answers.tested(name)
        sure = np.where(tested, confidences(runs, name, calibrated=True), -1.0)
        order = np.argsort(-sure, axis=1, kind="stable")
        ranks = np.empty(order.shape, np.int64)
        np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
        answered = ranks < np.ceil(COVERAGES[:, None] * tested.sum(axis=1) - 1e-9)[..., None]
        whole = np.broadcast_to(tested, answered.shape)
        right = answered & runs.answers.right(name)
        scores[name] = ratio_scores(groups, right, answered, whole)
        rows[name] = [
            wanted
            | {"coverage": coverage, "images": int(member.sum()), "fitted": 0}
            | {"threshold": np.where(member, sure, 1.0).min(axis=1).mean()}
            for coverage, member in zip(COVERAGES, answered, strict=True)
        ]
    for number in range(len(COVERAGES)):
        wrong = errors_of({name: own[number] for name, own in scores.items()}, confidence)
        for name, error in wrong.items():
            rows[name][number] |= named("error", error, short=True)
    fitted = judge_answers(groups, _asked(decided, "answered"), confidence)
    for name, (share, found) in fitted.items():
        given = decided[name].answered
        if found is None or given is None:
            continue
        values = [each.answer for each in thresholds[name] if each.answer is not None]
        rows[name].append(
            {"backbone": name, "max_error": thresholds[name][0].max_error, "fitted": 1}
            | {"coverage": share.value, "images": int(given.sum())}
            | {"threshold": float(np.mean(values))}
            | named("error", found, short=True)
        )
    return pd.DataFrame([row for own in rows.values() for row in own], columns=columns)


def _asked(decided: dict[str, Decisions], what: str) -> dict[str, Decisions]:
    """Return the backbones for which thresholds, or sets, were asked for."""
    return {name: own for name, own in decided.items() if getattr(own, what) is not None}
