"""Selection of the backbone to deploy, from val predictions and costs alone.

The best backbone on val is often only the luckiest of several that are about as good, so a cheaper
one may replace it. "Not significantly different" alone would be a bad criterion: with few val
images nothing is significant, and the cheapest would win however much worse it is. A margin alone
would be bad, too: with many val images a difference within it may be real. A cheaper backbone is
therefore chosen only if it is within the margin of the best and not significantly different from
it. The comparison is corrected for all pairs, as the best was not known beforehand (Hsu, Multiple
Comparisons, 1996).

Both conditions concern the val images. The true loss may exceed the margin; the probability of
that is part of the result.

Measured costs are noisy: among backbones whose cost is not significantly higher than the cheapest,
the best on val is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from carbench.models.temperature import MIN_PROBABILITY
from carbench.params.choose import ChooseParams
from carbench.statistics.class_mix import class_shares
from carbench.statistics.confidence_intervals import Interval, share_interval
from carbench.statistics.estimates import ROUNDING, Estimate, estimate_jointly
from carbench.statistics.jackknife import Groups
from carbench.statistics.paired_comparisons import DRAWS, compare_pairs, probability_above
from carbench.statistics.prediction_costs import Cost
from carbench.statistics.predictions import AlignedPredictions
from carbench.statistics.scores import ClassScores


@dataclass(frozen=True)
class RankedBackbone:
    """Results of one backbone on val.

    Attributes:
        tied: whether it is not significantly different from the best.
        eligible: whether it may be chosen: tied, and within the margin of the best.
        accuracy: on val, the mean over seeds.
        behind: difference to the best on val; the intervals of all pairs hold jointly.
        p_adjusted: p-value of that difference, corrected for all pairs.
        loses_margin: probability that it is truly behind the best by more than the margin.
        cost: the cost by which ties are resolved.
        cost_tied: whether it is eligible and costs no more than the cheapest eligible one; measured
            costs count as higher only if the difference is significant.
    """

    backbone: str
    chosen: bool
    tied: bool
    eligible: bool
    accuracy: Interval
    behind: Interval
    p_adjusted: float
    loses_margin: float
    cost: float
    cost_tied: bool


def choose(
    predictions: AlignedPredictions,
    costs: dict[str, Cost],
    params: ChooseParams,
    draws: int = DRAWS,
) -> list[RankedBackbone]:
    """Return the backbones, the best on val first; exactly one is chosen.

    The result does not depend on the order of the backbones: equally accurate ones are sorted by
    cost, equally cheap ones by name.

    Args:
        predictions: predictions for the val images.
        costs: cost of each backbone, from stage cost.
        params: selection rule.
        draws: number of Monte Carlo draws for the multiple-comparison correction.

    Raises:
        CarbenchError: ``params.deployment_mix`` does not match the classes.
    """
    mix = class_shares(params.deployment_mix, predictions.classes)
    groups = Groups(predictions.groups, predictions.splits)
    estimates = estimate_jointly(
        {
            name: ClassScores(
                groups, predictions.labels, predicted, len(predictions.classes)
            ).accuracy(mix)
            for name, predicted in predictions.predicted.items()
        }
    )
    cost_of = {name: costs[name].value(params.cost) for name in estimates}
    order = sorted(
        estimates, key=lambda name: (-round(estimates[name].value / ROUNDING), cost_of[name], name)
    )
    ordered = {name: estimates[name] for name in order}
    best = order[0]
    versus = {
        comparison.other: comparison
        for comparison in compare_pairs(ordered, params.confidence, params.margin, draws=draws)
        if comparison.backbone == best
    }
    tied = {best} | {name for name, comparison in versus.items() if not comparison.significant}
    within = {
        name
        for name in order
        if ordered[best].value - ordered[name].value <= params.margin + ROUNDING
    }
    eligible = [name for name in order if name in tied & within]
    cheapest = costs[min(eligible, key=lambda name: cost_of[name])]  # the first of equals
    cost_tied = {
        name
        for name in eligible
        if not costs[name].is_more_expensive(cheapest, params.cost, params.confidence)
    }
    chosen = best
    if params.ties == "cheapest":
        chosen = next(name for name in order if name in cost_tied)
    return [
        RankedBackbone(
            backbone=name,
            chosen=name == chosen,
            tied=name in tied,
            eligible=name in eligible,
            accuracy=share_interval(ordered[name], params.confidence),
            behind=versus[name].difference if name in versus else Interval(0.0, 0.0, 0.0),
            p_adjusted=versus[name].p_adjusted if name in versus else 1.0,
            loses_margin=_loses_margin(ordered[best], ordered[name], params.margin),
            cost=cost_of[name],
            cost_tied=name in cost_tied,
        )
        for name in order
    ]


def best_training(predictions: Sequence[pd.DataFrame]) -> int:
    """Return the index of a backbone's best training run on val, which is exported.

    It has the highest accuracy; ties are broken by the smallest negative log-likelihood.

    Args:
        predictions: val.csv of each training run: class, predicted, p:... for every class.
    """

    def sort_key(table: pd.DataFrame) -> tuple[float, float]:
        columns = table.columns.get_indexer(pd.Index("p:" + table["class"]))
        true = table.to_numpy()[np.arange(len(table)), columns].astype(np.float64)
        correct = table["class"] == table["predicted"]
        return float(correct.mean()), float(np.log(true.clip(min=MIN_PROBABILITY)).mean())

    return max(range(len(predictions)), key=lambda number: sort_key(predictions[number]))


def describe_choice(candidates: list[RankedBackbone], params: ChooseParams) -> str:
    """Return one sentence that states which backbone was chosen and why."""
    best = candidates[0]
    (chosen,) = (candidate for candidate in candidates if candidate.chosen)
    eligible = [candidate.backbone for candidate in candidates if candidate.eligible]
    if chosen is best and (len(eligible) == 1 or params.ties == "best"):
        why = "the best on val"
    elif chosen is best:
        why = f"the best on val, and the cheapest by {params.cost} of {', '.join(eligible)}"
    else:
        why = (
            f"the cheapest by {params.cost} of {', '.join(eligible)}: not significantly different "
            f"from the best on val, and {100 * chosen.behind.value:.1f} percentage points behind "
            f"it there (at most {100 * params.margin:.3g} allowed); in truth it may be up to "
            f"{100 * chosen.behind.high:.1f} behind, and is more than {100 * params.margin:.3g} "
            f"behind with a probability of {100 * chosen.loses_margin:.0f} %"
        )
        alike = [each.backbone for each in candidates if each.cost_tied]
        if len(alike) > 1:
            why += (
                f"; the best on val of {', '.join(alike)}, whose costs do not differ significantly"
            )
    return (
        f"chose {chosen.backbone}, {why}; val accuracy {100 * chosen.accuracy.value:.1f} % "
        f"({100 * chosen.accuracy.low:.1f} to {100 * chosen.accuracy.high:.1f})"
    )


def _loses_margin(best: Estimate, other: Estimate, margin: float) -> float:
    return 0.0 if other is best else probability_above(best.minus(other), margin)
