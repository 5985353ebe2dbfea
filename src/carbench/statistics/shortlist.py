"""Selection of the screened candidates that are worth fine-tuning.

A linear classifier on frozen features ranks models only roughly as fine-tuning does, and on a
limited number of images. Candidates are therefore eligible if they are not significantly different
from the best or within a margin of it: fine-tuning may reverse such differences. Of these, the
requested number is selected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carbench.params.shortlist import ShortlistParams
from carbench.statistics.confidence_intervals import Interval, share_interval
from carbench.statistics.estimates import ROUNDING, Estimate, estimate_jointly
from carbench.statistics.jackknife import Groups
from carbench.statistics.paired_comparisons import compare_pairs
from carbench.statistics.scores import subset_scores


@dataclass(frozen=True)
class RankedCandidate:
    """A screened candidate in the ranking.

    Attributes:
        accuracy: cross-validated accuracy of the linear probe on training images.
        behind: difference to the best; the intervals of all candidates hold jointly.
        tied: whether it is not significantly different from the best.
        eligible: tied, or within the margin.
        shortlisted: whether it is selected for fine-tuning.
    """

    model: str
    accuracy: Interval
    behind: Interval
    tied: bool
    eligible: bool
    shortlisted: bool


def rank_candidates(
    correct: Mapping[str, NDArray[np.bool_]],
    groups: NDArray[np.int64],
    families: Mapping[str, str],
    macs: Mapping[str, int],
    params: ShortlistParams,
) -> list[RankedCandidate]:
    """Return the candidates by descending accuracy; ties are broken by fewer MACs.

    Differences to the best are corrected for the number of candidates.

    Args:
        correct: (N,) for each candidate, whether it classifies the image correctly.
        groups: (N,) duplicate groups.
        families: family of each candidate.
        macs: multiply-accumulates of each candidate.
        params: selection rule.
    """
    known, everything = Groups(groups), np.ones((1, 1, len(groups)), np.bool_)
    estimates = estimate_jointly(
        {name: subset_scores(known, own[None], everything)[0] for name, own in correct.items()}
    )
    order = sorted(
        estimates, key=lambda name: (-round(estimates[name].value / ROUNDING), macs[name], name)
    )
    best, *others = order
    behind, tied = _differences_to_best(estimates, best, others, params)
    within = {
        name
        for name in order
        if estimates[best].value - estimates[name].value <= params.margin + ROUNDING
    }
    eligible = [name for name in order if name in tied | within]
    listed = _select(eligible, families, macs, params)
    return [
        RankedCandidate(
            name,
            share_interval(estimates[name], params.confidence),
            behind[name],
            name in tied,
            name in eligible,
            name in listed,
        )
        for name in order
    ]


def _differences_to_best(
    estimates: dict[str, Estimate], best: str, others: Sequence[str], params: ShortlistParams
) -> tuple[dict[str, Interval], set[str]]:
    """Return the differences to the best, and the candidates tied with it."""
    behind = {best: Interval(0.0, 0.0, 0.0)}
    tied = {best}
    if others:
        pairs = [(best, other) for other in others]
        for comparison in compare_pairs(estimates, params.confidence, params.margin, pairs):
            behind[comparison.other] = comparison.difference
            if not comparison.significant:
                tied.add(comparison.other)
    return behind, tied


def _select(
    eligible: Sequence[str],
    families: Mapping[str, str],
    macs: Mapping[str, int],
    params: ShortlistParams,
) -> set[str]:
    """Return the best and the first others by ``prefer``, at most ``per_family`` per family."""
    best, *others = eligible
    if params.prefer == "cheap":
        others.sort(key=lambda name: macs[name])
    taken = [best]
    counted = Counter([families[best]])
    for name in others:
        full = 0 < params.per_family <= counted[families[name]]
        if len(taken) < params.size and not full:
            taken.append(name)
            counted[families[name]] += 1
    return set(taken)
