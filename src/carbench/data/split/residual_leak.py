"""How many twins the audit may have missed between the images that judge and those that train.

Each different file that judges is laid beside the image of the other side that is most like it.
Where the two agree nearly as well as twins do, they are doubtful, and a person judges them all; of
the rest a person judges a random sample. The sample bounds how many of the rest are twins after
all, as far as a twin is among the images that the audit compares closely.
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
from carbench.data.split.splitting import Assignment
from carbench.data.split.table import FOLD

CONFIDENCE = 0.95
EXAMPLES = 6  # of doubtful pairs, for the report


@dataclass(frozen=True)
class File:
    """An image file: its name, and the number of the first with the same bytes."""

    image: str
    exact: int


@dataclass(frozen=True)
class Candidate:
    """A row of the audit's candidates.csv: two images and how well they agree."""

    first: str
    second: str
    agreement: float
    mirrored: bool
    doubtful: bool
    verdict: str


@dataclass(frozen=True)
class Doubt:
    """An image that judges, and the one of the other side that is most like it."""

    image: str
    twin: str
    agreement: float
    mirrored: bool
    doubtful: bool
    verdict: str


def doubts(
    files: Sequence[File],
    assignments: Sequence[Assignment],
    candidates: Iterable[Candidate],
    seed: int,
) -> tuple[list[Doubt], int]:
    """Return what a person has to judge, and how many files that judge have no candidate.

    Doubtful ones come first, from the most alike; the others come in a random order, so that the
    first n of them are a random sample. Images that the audit itself found to have a twin are not
    among them; those whose twin a person has confirmed are.

    Args:
        files: all images.
        assignments: where each went.
        candidates: pairs that were compared closely, by the first files with their bytes.
        seed: of the random order.
    """
    name_of: dict[int, str] = {}
    # Of each file by its first name: the sides that it stands on, and its name there.
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    leaked: set[str] = set()
    for file, assignment in zip(files, assignments, strict=True):
        name = name_of.setdefault(file.exact, file.image)
        if assignment.split != "excluded":
            sides[name].setdefault(_side(assignment.split), file.image)
        if assignment.leaked:
            leaked.add(name)
    beside: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        beside[candidate.first].append(candidate)
        beside[candidate.second].append(candidate)

    found: list[Doubt] = []
    alone = 0
    for name in name_of.values():
        if not any(side == "test" or side.startswith(FOLD) for side in sides[name]):
            continue
        likely = _likeliest(name, beside[name], sides)
        if name in leaked and not (likely and likely.verdict == SAME):
            continue
        if likely is None:
            alone += 1
            continue
        other = sides[likely.second if likely.first == name else likely.first]
        twin = next((other[side] for side in other if side not in sides[name]), None)
        found.append(
            Doubt(
                next(iter(sides[name].values())),
                twin or next(iter(other.values()), ""),
                likely.agreement,
                likely.mirrored,
                likely.doubtful,
                likely.verdict,
            )
        )
    first = sorted((each for each in found if each.doubtful), key=lambda each: -each.agreement)
    rest = [each for each in found if not each.doubtful]
    return [*first, *sorted(rest, key=lambda each: _draw(each.image, seed))], alone


def estimate(found: Sequence[Doubt], alone: int) -> dict[str, Any]:
    """Return what a person has judged, and bounds on how many twins are left.

    Returns:
        Counts, and under ``missed`` the expected number of files with a twin among those that
        nobody has judged, with its interval; None as long as a doubtful pair or the whole sample
        waits for a person. ``examples`` are doubtful pairs that wait.
    """
    doubtful = [each for each in found if each.doubtful]
    rest = [each for each in found if not each.doubtful]
    waiting = sum(not each.verdict for each in doubtful)
    sample = next((n for n, each in enumerate(rest) if not each.verdict), len(rest))
    twins = sum(each.verdict == SAME for each in rest[:sample])
    missed = None
    if not waiting and (sample or not rest):
        low, high = missed_bounds(len(rest), sample, twins)
        expected = (len(rest) - sample) * twins / sample if sample else 0.0
        missed = {
            "expected": round(expected, 1), "low": low, "high": high, "confidence": CONFIDENCE
        }  # fmt: skip
    return {
        "files": len(found) + alone,
        "without_candidate": alone,
        "doubtful": len(doubtful),
        "doubtful_waiting": waiting,
        "rest": len(rest),
        "sample": sample,
        "confirmed": sum(each.verdict == SAME for each in found),
        "different": sum(each.verdict == DIFFERENT for each in found),
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


def missed_bounds(count: int, sample: int, twins: int) -> tuple[int, int]:
    """Return bounds on the twins among the ``count - sample`` files that nobody has judged.

    The interval holds all totals that do not make the sample too unlikely (Clopper & Pearson, "The
    use of confidence or fiducial limits", Biometrika 1934), for a sample without replacement: each
    tail keeps half of 1 - :data:`CONFIDENCE`.
    """
    if sample == count:  # all were judged, or there are none
        return 0, 0
    totals = np.arange(twins, count - (sample - twins) + 1)
    tail = (1 - CONFIDENCE) / 2
    drawn = hypergeom(count, totals, sample)
    possible = totals[(drawn.cdf(twins) > tail) & (drawn.sf(twins - 1) > tail)] - twins
    return int(possible.min()), int(possible.max())


def _likeliest(
    name: str, candidates: Sequence[Candidate], sides: dict[str, dict[str, str]]
) -> Candidate | None:
    """Return the pair that a person confirmed, or that is to be judged: of those across sides a
    doubtful one without a verdict if there is one, and of these the most alike."""

    def across(each: Candidate) -> bool:
        other = sides[each.second if each.first == name else each.first]
        return bool(set(other) - set(sides[name]) - {"test"})

    confirmed = [each for each in candidates if each.verdict == SAME]
    others = [each for each in candidates if across(each)]
    waiting = [each for each in others if each.doubtful and not each.verdict]
    return max(confirmed or waiting or others, key=lambda each: each.agreement, default=None)


def _side(part: str) -> str:
    """Train and val are one side: what a model learns from, or is chosen by."""
    return part if part == "test" or part.startswith(FOLD) else "known"


def _draw(image: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {image}".encode()).hexdigest()
