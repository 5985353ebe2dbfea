"""Estimates how many duplicates between evaluation and training images the audit has missed.

Each distinct test or fold file is paired with the most similar image on the other side. Pairs with
an agreement close to that of duplicates are doubtful, and all are reviewed manually; of the others,
a random sample is. The sample bounds the number of duplicates among the rest, provided that they
are among the candidates of the audit.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import hypergeom

from carbench.core.tables import read_chunks
from carbench.data.audit.verdicts import DIFFERENT, OTHER, SAME
from carbench.data.split.assignment import Assignments, GroupedImages
from carbench.data.split.table import EXCLUDED

CONFIDENCE = 0.95
EXAMPLES = 6  # doubtful pairs shown in the report
KNOWN = 1  # the bit of train and val, among those of the sides


class CandidatePair(NamedTuple):
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


def read_candidates(path: Path) -> Iterator[CandidatePair]:
    """Yield the rows of candidates.csv; there are several for each image."""
    columns = ("first", "second", "agreement", "mirrored", "kind", "verdict")
    for chunk in read_chunks(path, columns):
        for first, second, agreement, mirrored, kind, verdict in zip(*chunk, strict=True):
            # A near duplicate that was cut from its group is doubtful, too.
            doubtful = kind != OTHER
            yield CandidatePair(first, second, float(agreement), mirrored == "1", doubtful, verdict)


def closest_pairs(
    images: GroupedImages,
    assignments: Assignments,
    candidates: Iterable[CandidatePair],
    seed: int,
) -> tuple[list[ClosestPair], int]:
    """Return the pairs for review, and the number of evaluation files without a candidate.

    Doubtful pairs come first, from the most similar; the others are in random order, so that the
    first n of them are a random sample. Images with a duplicate found by the audit are left out;
    those with a manually confirmed duplicate are not.

    Args:
        images: all images.
        assignments: the split of each image.
        candidates: the candidate pairs of the audit, among the first of byte-identical files.
        seed: seed of the random order.
    """
    files = _Files(images, assignments)
    best: dict[int, _Candidate] = {}
    for pair in candidates:
        first, second = files.numbers[pair.first], files.numbers[pair.second]
        for own, other in ((first, second), (second, first)):
            if files.is_evaluated(own):
                rank = _rank(pair, files.is_across(own, other)), pair.agreement
                if rank[0] and (own not in best or rank > best[own].rank):
                    best[own] = _Candidate(rank, other, pair)

    pairs: list[ClosestPair] = []
    without_candidate = 0
    for own in filter(files.is_evaluated, files.numbers.values()):
        found = best.get(own)
        if files.leaked[own] and not (found and found.pair.verdict == SAME):
            continue
        if found is None:
            without_candidate += 1
            continue
        pairs.append(
            ClosestPair(
                files.name(own),
                files.counterpart(found.other, own),
                found.pair.agreement,
                found.pair.mirrored,
                found.pair.doubtful,
                found.pair.verdict,
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
    tail = (1 - CONFIDENCE) / 2
    totals = range(duplicates, count - (sample - duplicates) + 1)

    # With the total, the upper tail grows and the lower tail falls.
    def is_enough(total: int) -> bool:
        return bool(hypergeom.sf(duplicates - 1, count, total, sample) > tail)

    def is_too_many(total: int) -> bool:
        return bool(hypergeom.cdf(duplicates, count, total, sample) <= tail)

    low = totals[bisect_left(totals, True, key=is_enough)]
    high = totals[bisect_left(totals, True, key=is_too_many) - 1]
    return low - duplicates, high - duplicates


class _Candidate(NamedTuple):
    """The best candidate pair of a file so far, with the number of the other file."""

    rank: tuple[int, float]
    other: int
    pair: CandidatePair


def _rank(pair: CandidatePair, is_across: bool) -> int:
    """Return the rank of a candidate pair: confirmed, then doubtful ones across sides without a
    verdict, then others across sides; 0 for the rest."""
    if pair.verdict == SAME:
        return 3
    return 0 if not is_across else 2 if pair.doubtful and not pair.verdict else 1


class _Files:
    """The distinct files among the images, numbered by their first image, and their sides.

    Train and val are one side, test and each fold are others; an excluded image is on none. The
    sides are bits of an integer.

    Attributes:
        numbers: the number of each file by the name of its first image, in order.
        leaked: for each file, whether one of its images is leaked.
    """

    def __init__(self, images: GroupedImages, assignments: Assignments) -> None:
        self._images = images.images
        _, first, file_of = np.unique(images.exact, return_index=True, return_inverse=True)
        self.numbers = dict(zip(images.images[first].tolist(), range(len(first)), strict=True))
        self.leaked = np.bincount(file_of[assignments.leaked], minlength=len(first)) > 0

        bits = _SideBits({"train": KNOWN, "val": KNOWN, EXCLUDED: 0})
        self._side_of = [bits[split] for split in assignments.splits.tolist()]
        self._sides = [0] * len(first)
        for file, side in zip(file_of.tolist(), self._side_of, strict=True):
            self._sides[file] |= side
        self._test = bits["test"]
        # The images of file f are by_file[starts[f] : starts[f + 1]], in order.
        self._by_file = np.argsort(file_of, kind="stable")
        self._starts = np.searchsorted(file_of[self._by_file], np.arange(len(first) + 1))

    def is_evaluated(self, file: int) -> bool:
        """Return whether a file is in test or a fold."""
        return self._sides[file] & ~KNOWN != 0

    def is_across(self, own: int, other: int) -> bool:
        """Return whether another file is on a side, except test, that a file is not on."""
        return self._sides[other] & ~self._sides[own] & ~self._test != 0

    def name(self, file: int) -> str:
        """Return the first image of a file that is not excluded."""
        return self._first(file, -1)

    def counterpart(self, other: int, own: int) -> str:
        """Return the first image of another file on a side that a file is not on.

        If there is none, its first image that is not excluded, or ``""``.
        """
        return self._first(other, ~self._sides[own]) or self._first(other, -1)

    def _first(self, file: int, sides: int) -> str:
        images = self._by_file[self._starts[file] : self._starts[file + 1]].tolist()
        found = (image for image in images if self._side_of[image] & sides)
        return next((self._images[image] for image in found), "")


class _SideBits(dict[str, int]):
    """The bit of the side of each split; test and each fold get one of their own."""

    def __missing__(self, split: str) -> int:
        bit = self[split] = max(self.values()) << 1
        return bit


def _random_key(image: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {image}".encode()).hexdigest()
