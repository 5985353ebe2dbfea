"""The learning rate of a backbone, chosen on val: each rate is tried for a few epochs.

One rate for all backbones would favour those that it happens to suit.
"""

from __future__ import annotations

from pathlib import Path

from carbench.core.tables import damaged, read_table
from carbench.params.train import TrainParams
from carbench.params.tune import TuneParams

COLUMNS = ["lr", "epoch", "val_accuracy", "val_loss", "chosen"]


def trial(params: TrainParams, tune: TuneParams, lr: float) -> TrainParams:
    """Return the recipe of a trial: the whole schedule within its epochs.

    Warm-up and frozen epochs stay as they are, but take at most half of the trial.
    """
    changes = {
        "lr": lr,
        "epochs": tune.epochs,
        "warmup_epochs": min(params.warmup_epochs, tune.epochs / 2),
        "freeze_epochs": min(params.freeze_epochs, tune.epochs // 2),
    }
    return TrainParams.model_validate(params.model_dump() | changes)


def chosen_rate(path: Path) -> float | None:
    """Return the learning rate that tune's table chose; None if the study does not tune."""
    rows = read_table(path, COLUMNS)
    chosen = [float(row["lr"]) for row in rows if row["chosen"] == "1"]
    if rows and len(chosen) != 1:
        raise damaged(path, f"{len(chosen)} chosen learning rates")
    return chosen[0] if chosen else None


def tuned(path: Path) -> dict[str, float]:
    """Return what tune's table changes of a recipe: ``lr``, or nothing without a choice."""
    rate = chosen_rate(path)
    return {} if rate is None else {"lr": rate}
