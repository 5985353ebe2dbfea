"""The choice: which backbone to deploy, from val predictions and costs alone.

The best on val is only the luckiest of several that are about as good, so that a cheaper one may
take its place. "Not significantly different" alone would be a bad rule: with few val pictures
nothing is, and the cheapest would win however much worse it did. A small margin alone would be one,
too: with many val pictures a difference inside it may be real. A cheaper backbone is therefore
taken only if it is both within the margin of the best and not told apart from it. The comparison is
corrected for all pairs, as the best was not known beforehand (Hsu, Multiple Comparisons, 1996).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from carbench.params.choose import ChooseParams
from carbench.statistics.answers import Answers
from carbench.statistics.bootstrap import Bootstrap
from carbench.statistics.comparing import compare
from carbench.statistics.intervals import Interval, share_interval
from carbench.statistics.scoring import part_scores


@dataclass(frozen=True)
class Candidate:
    """A backbone as val shows it.

    Attributes:
        tied: whether val does not tell it apart from the best.
        eligible: whether it may be chosen: tied, and within the margin of the best.
        accuracy: on val, the mean of the seeds.
        behind: how far behind the best on val; the interval holds for all pairs together.
        p_adjusted: of that difference, corrected for all pairs.
        cost: what the rule for ties looks at.
    """

    backbone: str
    chosen: bool
    tied: bool
    eligible: bool
    accuracy: Interval
    behind: Interval
    p_adjusted: float
    cost: float


def choose(
    answers: Answers, costs: dict[str, dict[str, Any]], params: ChooseParams
) -> list[Candidate]:
    """Return the backbones, the best on val first; exactly one is chosen.

    Args:
        answers: to the val pictures.
        costs: the document of stage cost by backbone.
        params: the rule.
    """
    bootstrap = Bootstrap(answers.groups, params.resamples, params.seed)
    estimates = {}
    for name in answers.predicted:
        right, tested = answers.right(name), answers.tested(name)
        (score,) = part_scores(bootstrap, right, tested[None])
        estimates[name] = score.estimate()
    price = {name: _cost(costs[name], params.cost) for name in estimates}
    order = sorted(estimates, key=lambda name: (-estimates[name].value, price[name]))
    ordered = {name: estimates[name] for name in order}
    best = order[0]
    versus = {
        comparison.other: comparison
        for comparison in compare(ordered, params.confidence, params.seed)
        if comparison.backbone == best
    }
    tied = {best} | {name for name, comparison in versus.items() if not comparison.significant}
    # Accuracies are sums of shares: a hair's breadth is rounding.
    within = {
        name for name in order if ordered[best].value - ordered[name].value <= params.margin + 1e-9
    }
    eligible = tied & within
    chosen = best
    if params.ties == "cheapest":
        chosen = min((name for name in order if name in eligible), key=lambda name: price[name])
    return [
        Candidate(
            backbone=name,
            chosen=name == chosen,
            tied=name in tied,
            eligible=name in eligible,
            accuracy=share_interval(ordered[name], params.confidence),
            behind=versus[name].difference if name in versus else Interval(0.0, 0.0, 0.0),
            p_adjusted=versus[name].p_adjusted if name in versus else 1.0,
            cost=price[name],
        )
        for name in order
    ]


def explain(candidates: list[Candidate], params: ChooseParams) -> str:
    """Return in a sentence what was chosen and why."""
    best = candidates[0]
    (chosen,) = (candidate for candidate in candidates if candidate.chosen)
    eligible = [candidate.backbone for candidate in candidates if candidate.eligible]
    if chosen is best and (len(eligible) == 1 or params.ties == "best"):
        why = "the best on val"
    else:
        why = (
            f"the cheapest by {params.cost} of {', '.join(eligible)}: not told apart from the best "
            f"on val, and at most {100 * params.margin:.3g} percentage points behind it"
        )
    return (
        f"chose {chosen.backbone}, {why}; val accuracy {100 * chosen.accuracy.value:.1f} % "
        f"({100 * chosen.accuracy.low:.1f} to {100 * chosen.accuracy.high:.1f})"
    )


def _cost(document: dict[str, Any], by: str) -> float:
    found = document[by]
    return float(found["median"] if isinstance(found, dict) else found)
