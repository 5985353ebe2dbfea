"""Learning-rate search on val: each learning rate is tried for a few epochs.

A single learning rate for all backbones would favour those that it suits.
"""

from __future__ import annotations

from pathlib import Path

from carbench.core.tables import damaged, read_table
from carbench.params.train import TrainParams
from carbench.params.tune import TuneParams

COLUMNS = ["lr", "epoch", "val_accuracy", "val_loss", "chosen"]


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


def chosen_learning_rate(path: Path) -> float | None:
    """Return the selected learning rate of tune's table; None if the study does not tune."""
    rows = read_table(path, COLUMNS)
    chosen = [float(row["lr"]) for row in rows if row["chosen"] == "1"]
    if rows and len(chosen) != 1:
        raise damaged(path, f"{len(chosen)} chosen learning rates")
    return chosen[0] if chosen else None


def tuned_overrides(path: Path) -> dict[str, float]:
    """Return the overrides from tune's table: ``lr``, or none if the study does not tune."""
    rate = chosen_learning_rate(path)
    return {} if rate is None else {"lr": rate}
