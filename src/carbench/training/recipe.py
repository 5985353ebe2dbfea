"""The recipe of one training: `train:`, the backbone's overrides, and the rate that tune chose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carbench.core.params import parse
from carbench.models.checkpoints import is_pretrained
from carbench.params.train import TrainParams, recipe_of
from carbench.training.tuning import tuned


def training_recipe(
    section: dict[str, Any],
    overrides: dict[str, Any],
    weights: Path,
    tune: Path | None,
    key: str,
    params: Path,
) -> tuple[TrainParams, dict[str, Any]]:
    """Return the recipe of a backbone, checked, and as plain values for the provenance.

    Args:
        section: `train:`.
        overrides: `backbones.NAME.train`.
        weights: the initial weights; `train.finetune` applies to pretrained ones only.
        tune: what stage tune wrote, to use the learning rate that it chose.
        key: of the overrides, for errors.
        params: params.yaml, for errors.

    Raises:
        CarbenchError: a mistake in params.yaml, or damaged files.
    """
    values = recipe_of(section, overrides, is_pretrained(weights))
    if tune:
        values |= tuned(tune)
    return parse(values, TrainParams, key, params), values
