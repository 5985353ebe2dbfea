"""Reads the results of stage screen for all pools, and builds the table of stage shortlist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carbench.core.errors import CarbenchError
from carbench.core.tables import damaged, read_table
from carbench.params.screen import SCREENED
from carbench.params.shortlist import ShortlistParams
from carbench.statistics.shortlist import rank_candidates

COLUMNS = (
    *("rank", "model", "pool", "family", "start", "license", "parameters", "macs", "image_size"),
    *("images", "accuracy", "low", "high", "behind", "behind_low", "behind_high", "tied"),
    *("eligible", "shortlisted", "neighbour_accuracy", "confidence"),
)
KNOWN = ("model", "pool", "family", "start", "license", "parameters", "macs", "image_size")


@dataclass(frozen=True)
class ScreenedPools:
    """All candidates of a study and the images that each classified correctly.

    Attributes:
        candidates: rows of candidates.csv of all pools, by model.
        correct: (N,) whether each image is classified correctly, by screened model.
        groups: (N,) duplicate groups of the images.
    """

    candidates: dict[str, dict[str, str]]
    correct: dict[str, NDArray[np.bool_]]
    groups: NDArray[np.int64]


def read_screened(folder: Path, pools: Sequence[str]) -> ScreenedPools:
    """Read the results of every pool.

    A model in several pools counts as a candidate of the first one.

    Raises:
        CarbenchError: a table is missing or damaged, or pools were screened on different images.
    """
    candidates: dict[str, dict[str, str]] = {}
    correct: dict[str, NDArray[np.bool_]] = {}
    images: list[tuple[str, str]] = []
    groups: list[int] = []
    for pool in pools:
        rows = read_table(folder / pool / "candidates.csv", (*KNOWN, "status"))
        place = folder / pool / "predictions.csv"
        answers = read_table(place, ("image", "class", "group"))
        own = [(row["image"], row["group"]) for row in answers]
        if images and own and own != images:
            raise CarbenchError(
                place,
                found="images that differ from those of another pool",
                expected="the same images for all pools",
                fix="delete the folder above it and run again",
            )
        if own:
            images, groups = own, [int(row["group"]) for row in answers]
        for row in rows:
            name = row["model"]
            if name in candidates:
                continue
            candidates[name] = row
            if row["status"] != SCREENED:
                continue
            if answers and name not in answers[0]:
                raise damaged(place, f"no column {name}")
            correct[name] = np.array([answer[name] == answer["class"] for answer in answers])
    return ScreenedPools(candidates, correct, np.array(groups, np.int64))


def shortlist_rows(screened: ScreenedPools, params: ShortlistParams) -> list[dict[str, Any]]:
    """Return the rows of shortlist.csv, the most accurate candidate first.

    There are none if nothing was screened.
    """
    if not screened.correct:
        return []
    known = screened.candidates
    ranked = rank_candidates(
        screened.correct,
        screened.groups,
        {name: known[name]["family"] for name in screened.correct},
        {name: int(known[name]["macs"]) for name in screened.correct},
        params,
    )
    return [
        {
            "rank": place,
            **{key: known[each.model][key] for key in KNOWN},
            "images": len(screened.groups),
            "accuracy": f"{each.accuracy.value:.6g}",
            "low": f"{each.accuracy.low:.6g}",
            "high": f"{each.accuracy.high:.6g}",
            "behind": f"{each.behind.value:.6g}",
            "behind_low": f"{each.behind.low:.6g}",
            "behind_high": f"{each.behind.high:.6g}",
            "tied": int(each.tied),
            "eligible": int(each.eligible),
            "shortlisted": int(each.shortlisted),
            "neighbour_accuracy": known[each.model]["neighbour_accuracy"],
            "confidence": params.confidence,
        }
        for place, each in enumerate(ranked, start=1)
    ]


def shortlist_metrics(screened: ScreenedPools, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the metrics that `dvc exp show` compares."""
    listed = [row for row in rows if row["shortlisted"]]
    return {
        "candidates": len(screened.candidates),
        "screened": len(rows),
        "shortlisted": len(listed),
        "shortlist": " ".join(row["model"] for row in listed),
        "probe_accuracy": float(rows[0]["accuracy"]) if rows else None,
        "probe_low": float(rows[0]["low"]) if rows else None,
        "probe_high": float(rows[0]["high"]) if rows else None,
    }
