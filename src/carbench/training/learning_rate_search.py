"""Learning-rate search on val: each learning rate is tried for a few epochs.

A single learning rate for all backbones would favour those that it suits.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.params.train import TrainParams
from carbench.params.tune import TuneParams
from carbench.training.loop import DivergedError, Epoch, is_better
from carbench.training.run import TrainingData, train_backbone

log = logging.getLogger("carbench")


def search_learning_rates(
    weights: Path,
    data: TrainingData,
    params: TrainParams,
    search: TuneParams,
    backbone: str,
    scratch: Path | None = None,
    live: Path | None = None,
) -> tuple[dict[float, Epoch], float]:
    """Try each learning rate of ``search``.

    Args:
        weights: initial weights of the backbone.
        data: the images.
        params: the recipe.
        search: the learning rates, and the epochs and seed of the trials.
        backbone: its name under ``backbones:``.
        scratch: folder for checkpoints, from which an interrupted search resumes.
        live: folder for the curves of the trials, to follow the search with.

    Returns:
        The best epoch of each learning rate, and the selected learning rate.

    Raises:
        CarbenchError: all learning rates diverged.
    """
    tried = {}
    for number, lr in enumerate(search.learning_rates):
        recipe = trial_recipe(params, search, lr)
        checkpoint = scratch and scratch / f"trial-{number}.pt"
        curve = live and live / f"trial-{number}.jsonl"
        tried[lr] = _run_trial(weights, data, recipe, search.seed, backbone, checkpoint, curve)
    return tried, best_learning_rate(tried, params.select)


def trial_recipe(params: TrainParams, tune: TuneParams, lr: float) -> TrainParams:
    """Return the recipe of a trial: the complete schedule, compressed to its epochs.

    Warm-up and frozen epochs are unchanged, but take at most half of the trial.
    """
    changes = {
        "lr": lr,
        "epochs": tune.epochs,
        "warmup_epochs": min(params.warmup_epochs, tune.epochs / 2),
        "freeze_epochs": min(params.freeze_epochs, tune.epochs // 2),
    }
    return TrainParams.model_validate(params.model_dump() | changes)


def _run_trial(
    weights: Path,
    data: TrainingData,
    params: TrainParams,
    seed: int,
    backbone: str,
    checkpoint: Path | None = None,
    live: Path | None = None,
) -> Epoch:
    """Train with the learning rate of ``params`` and return the best epoch.

    If ``checkpoint`` is that of a completed trial, nothing is trained. For a learning rate that
    diverges, an epoch 0 that is worse than any other is returned.
    """
    log.info("trying learning rate %g", params.lr)
    try:
        return train_backbone(weights, data, params, seed, backbone, checkpoint, live)[0].best
    except DivergedError as error:
        log.info("learning rate %g is rejected: %s", params.lr, error)
        return Epoch(0, params.lr, math.inf, math.inf, 0.0)


def best_learning_rate(tried: dict[float, Epoch], select: str) -> float:
    """Return the learning rate with the best epoch on val; the first of equal ones.

    Raises:
        CarbenchError: all learning rates diverged.
    """
    best, *others = tried
    for rate in others:
        if is_better(tried[rate], tried[best], select):
            best = rate
    if tried[best].epoch == 0:
        raise CarbenchError(
            "params.yaml",
            key="tune.learning_rates",
            found=f"{list(tried)}, all of which diverged",
            expected="a learning rate at which this backbone converges",
            fix="add lower learning rates",
        )
    return best
