"""Which training is exported: decided by val, or by the person."""

from __future__ import annotations

from pathlib import Path

from carbench.models.checkpoints import read_about
from carbench.params.export import CHOSEN, ExportParams
from carbench.tables import read_table


def pick(params: ExportParams, choice: Path, train: Path, seeds: list[int]) -> tuple[str, int]:
    """Return backbone and seed.

    The best seed is the one with the highest accuracy on val, of equal ones that with the lowest
    loss: what the training chose its epoch by.

    Args:
        params: what was asked for.
        choice: what stage choose wrote.
        train: the folder of all trainings.
        seeds: of the study.
    """
    backbone = params.backbone
    if backbone == CHOSEN:
        (backbone,) = (row["backbone"] for row in read_table(choice) if row["chosen"] == "1")
    if isinstance(params.seed, int):
        return backbone, params.seed
    about = {seed: read_about(train / backbone / str(seed) / "model.safetensors") for seed in seeds}
    best = max(seeds, key=lambda seed: (about[seed]["val_accuracy"], -about[seed]["val_loss"]))
    return backbone, best
