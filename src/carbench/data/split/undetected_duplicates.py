"""Estimates how many duplicates between evaluation and training images the audit has missed.

Each distinct test or fold file is paired with the most similar image on the other side. Pairs with
an agreement close to that of duplicates are doubtful, and all are reviewed manually; of the others,
a random sample is. The sample bounds the number of duplicates among the rest, provided that they
are among the candidates of the audit.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import hypergeom

from carbench.data.audit.verdicts import DIFFERENT, SAME
from carbench.data.split.assignment import Assignment
from carbench.data.split.table import FOLD

CONFIDENCE = 0.95
EXAMPLES = 6  # doubtful pairs shown in the report


@dataclass(frozen=True)
class ImageFile:
    """An image file: its name, and the index of the first file with the same bytes."""

    image: str
    exact: int


@dataclass(frozen=True)
class CandidatePair:
    """A row of candidates.csv: two images and their agreement."""

    first: str
    second: str
    agreement: float
    mirrored: bool
    doubtful: bool
    verdict: str


@dataclass(frozen=True)
class ClosestPair:
    """A row of doubtful.csv: an evaluation image and the most similar image on the other side."""

    image: str
    twin: str
    agreement: float
    mirrored: bool
    doubtful: bool
    verdict: str


def closest_pairs(
    files: Sequence[ImageFile],
    assignments: Sequence[Assignment],
    candidates: Iterable[CandidatePair],
    seed: int,
) -> tuple[list[ClosestPair], int]:
    """Return the pairs for review, and the number of evaluation files without a candidate.

    Doubtful pairs come first, from the most similar; the others are in random order, so that the
    first n of them are a random sample. Images with a duplicate found by the audit are left out;
    those with a manually confirmed duplicate are not.

    Args:
        files: all images.
        assignments: the split of each image.
        candidates: the candidate pairs of the audit, among the first of byte-identical files.
        seed: seed of the random order.
    """
    name_of: dict[int, str] = {}
    # For the first of byte-identical files: the sides it is on, and its name there.
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    leaked: set[str] = set()
    for file, assignment in zip(files, assignments, strict=True):
        name = name_of.setdefault(file.exact, file.image)
        if assignment.split != "excluded":
            sides[name].setdefault(_side(assignment.split), file.image)
        if assignment.leaked:
            leaked.add(name)
    candidates_of: dict[str, list[CandidatePair]] = defaultdict(list)
    for candidate in candidates:
        candidates_of[candidate.first].append(candidate)
        candidates_of[candidate.second].append(candidate)

    pairs: list[ClosestPair] = []
    without_candidate = 0
    for name in name_of.values():
        if not any(side == "test" or side.startswith(FOLD) for side in sides[name]):
            continue
        closest = _pair_to_review(name, candidates_of[name], sides)
        if name in leaked and not (closest and closest.verdict == SAME):
            continue
        if closest is None:
            without_candidate += 1
            continue
        other = sides[closest.second if closest.first == name else closest.first]
        counterpart = next((other[side] for side in other if side not in sides[name]), None)
        pairs.append(
            ClosestPair(
                next(iter(sides[name].values())),
                counterpart or next(iter(other.values()), ""),
                closest.agreement,
                closest.mirrored,
                closest.doubtful,
                closest.verdict,
            )
        )
    first = sorted((each for each in pairs if each.doubtful), key=lambda each: -each.agreement)
    rest = [each for each in pairs if not each.doubtful]
    return [
        *first,
        *sorted(rest, key=lambda each: _random_key(each.image, seed)),
    ], without_candidate


def estimate_residual(pairs: Sequence[ClosestPair], without_candidate: int) -> dict[str, Any]:
    """Return the state of the review, and bounds on the number of remaining duplicates.

    Returns:
        Counts, and under ``missed`` the expected number of files with a duplicate among those that
        are not reviewed, with its interval; None while a doubtful pair or the whole sample is not
        reviewed. ``examples`` are doubtful pairs that are not reviewed.
    """
    doubtful = [each for each in pairs if each.doubtful]
    rest = [each for each in pairs if not each.doubtful]
    not_reviewed = sum(not each.verdict for each in doubtful)
    sample = next((n for n, each in enumerate(rest) if not each.verdict), len(rest))
    duplicates = sum(each.verdict == SAME for each in rest[:sample])
    missed = None
    if not not_reviewed and (sample or not rest):
        low, high = missed_bounds(len(rest), sample, duplicates)
        expected = (len(rest) - sample) * duplicates / sample if sample else 0.0
        missed = {
            "expected": round(expected, 1), "low": low, "high": high, "confidence": CONFIDENCE
        }  # fmt: skip
    return {
        "files": len(pairs) + without_candidate,
        "without_candidate": without_candidate,
        "doubtful": len(doubtful),
        "doubtful_waiting": not_reviewed,
        "rest": len(rest),
        "sample": sample,
        "confirmed": sum(each.verdict == SAME for each in pairs),
        "different": sum(each.verdict == DIFFERENT for each in pairs),
        "missed": missed,
        "examples": [
            {
                "image": each.image,
                "twin": each.twin,
                "agreement": each.agreement,
                "mirrored": each.mirrored,
            }
            for each in doubtful
            if not each.verdict
        ][:EXAMPLES],
    }


def missed_bounds(count: int, sample: int, duplicates: int) -> tuple[int, int]:
    """Return bounds on the number of duplicates among the ``count - sample`` files not reviewed.

    The Clopper-Pearson interval ("The use of confidence or fiducial limits", Biometrika 1934) for
    sampling without replacement: all totals for which both tail probabilities of the sample exceed
    half of 1 - :data:`CONFIDENCE`.
    """
    if sample == count:  # all are reviewed, or there are none
        return 0, 0
    totals = np.arange(duplicates, count - (sample - duplicates) + 1)
    tail = (1 - CONFIDENCE) / 2
    distribution = hypergeom(count, totals, sample)
    possible = (
        totals[(distribution.cdf(duplicates) > tail) & (distribution.sf(duplicates - 1) > tail)]
        - duplicates
    )
    return int(possible.min()), int(possible.max())


def _pair_to_review(
    name: str, candidates: Sequence[CandidatePair], sides: dict[str, dict[str, str]]
) -> CandidatePair | None:
    """Return the most similar pair: of the confirmed ones if there are any, else of the doubtful
    ones across sides without a verdict, else of all across sides."""

    def is_across(each: CandidatePair) -> bool:
        other = sides[each.second if each.first == name else each.first]
        return bool(set(other) - set(sides[name]) - {"test"})

    confirmed = [each for each in candidates if each.verdict == SAME]
    others = [each for each in candidates if is_across(each)]
    not_reviewed = [each for each in others if each.doubtful and not each.verdict]
    return max(confirmed or not_reviewed or others, key=lambda each: each.agreement, default=None)


def _side(split: str) -> str:
    """Return the side of a split; train and val are one side, test and each fold are others."""
    return split if split == "test" or split.startswith(FOLD) else "known"


def _random_key(image: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {image}".encode()).hexdigest()
