"""How good the one model that is exported is on the clean test pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from carbench.params.aggregate import AggregateParams
from carbench.statistics.bootstrap import Bootstrap
from carbench.statistics.intervals import Interval, difference_interval, share_interval
from carbench.statistics.scoring import part_scores


def accuracy_of(table: pd.DataFrame, params: AggregateParams) -> Interval:
    """Return the accuracy on the clean pictures of a predictions.csv.

    The interval is of other test pictures only: there is but this one training.
    """
    right = (table["predicted"] == table["class"]).to_numpy()
    (score,) = _scores(table, [right], params)
    return share_interval(score.estimate(), params.confidence)


def measure_int8(
    table: pd.DataFrame, winners: Sequence[str], file: Path, params: AggregateParams
) -> dict[str, Any]:
    """Return what the 8-bit model loses on the clean pictures of a predictions.csv.

    Args:
        table: what stage evaluate wrote.
        winners: the 8-bit model's class for each of its rows.
        file: the 8-bit model.
        params: of the intervals.
    """
    truth = table["class"].to_numpy()
    said = np.array(winners)
    rights = [(table["predicted"] == table["class"]).to_numpy(), said == truth]
    full, small = _scores(table, rights, params)
    clean = (table["leaked"] == 0).to_numpy()
    same = (said == table["predicted"].to_numpy())[clean]
    return {
        "accuracy": vars(share_interval(small.estimate(), params.confidence)),
        "difference": vars(difference_interval(small.minus(full).estimate(), params.confidence)),
        "same_top1": float(same.mean()),
        "bytes": file.stat().st_size,
    }


def _scores(table: pd.DataFrame, rights: list[Any], params: AggregateParams) -> list[Any]:
    # Resampled as stage aggregate does it, so that for one seed it says the same to the digit.
    bootstrap = Bootstrap(table["group"].to_numpy(np.int64), params.resamples, params.seed)
    right = np.stack(rights)[:, None, :]
    clean = (table["leaked"] == 0).to_numpy()
    return part_scores(bootstrap, right, np.broadcast_to(clean, right.shape))
