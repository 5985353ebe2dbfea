"""The recipe of a training run: `train:`, overrides of the backbone, tuned learning rate."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from carbench.core.params import parse
from carbench.models.model_file import is_pretrained
from carbench.params.train import TrainParams, recipe_of
from carbench.training.tune_table import tuned_overrides


def add_training_arguments(parser: ArgumentParser) -> None:
    """Add the options of all stages that train: the backbone, and the files to train it from."""
    parser.add_argument("--backbone", required=True, help="a name under `backbones:`")
    parser.add_argument("--pack", type=Path, required=True, help="output of pack")
    parser.add_argument("--split", type=Path, required=True, help="split.csv")
    parser.add_argument("--weights", type=Path, required=True, help="output of weights")


def training_recipe(
    section: dict[str, Any],
    overrides: dict[str, Any],
    weights: Path,
    tune: Path | None,
    key: str,
    params: Path,
) -> tuple[TrainParams, dict[str, Any]]:
    """Return the validated recipe of a backbone, and its plain values for the provenance.

    Args:
        section: `train:`.
        overrides: `backbones.NAME.train`.
        weights: output of stage weights; `train.finetune` applies only to pretrained weights.
        tune: output of stage tune, to use its learning rate; None: do not.
        key: key of the overrides, for error messages.
        params: path of params.yaml, for error messages.

    Raises:
        CarbenchError: an invalid value in params.yaml, or damaged files.
    """
    values = recipe_of(section, overrides, is_pretrained(weights))
    if tune:
        values |= tuned_overrides(tune)
    return parse(values, TrainParams, key, params), values
