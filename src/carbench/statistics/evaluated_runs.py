"""Reads the results of stage evaluate for all training runs of the study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from carbench.core.tables import read_json
from carbench.models.temperature import apply_temperature
from carbench.statistics.predictions import (
    COLUMNS,
    UNTESTED,
    AlignedPredictions,
    align,
    read_tables,
    splits_of,
)


@dataclass(frozen=True)
class EvaluatedRuns:
    """Test results of all training runs of the study.

    Attributes:
        seeds: seeds of every backbone, in the order of the lists below.
        folders: output folders of stage evaluate by backbone, one per seed.
        predictions: predictions.csv by backbone, one table per seed.
        metrics: metrics.json by backbone, one per seed.
        aligned: the predictions, aligned by image.
    """

    seeds: list[int]
    folders: dict[str, list[Path]]
    predictions: dict[str, list[pd.DataFrame]]
    metrics: dict[str, list[dict[str, Any]]]
    aligned: AlignedPredictions

    @property
    def backbones(self) -> list[str]:
        """The backbones in the order of params.yaml."""
        return list(self.folders)

    @property
    def clean(self) -> NDArray[np.bool_]:
        """(N,) whether the image has no known duplicate in train or val."""
        return (self.aligned.images["leaked"] == 0).to_numpy()

    def clean_predictions(self, backbone: str) -> NDArray[np.int64]:
        """Return (S, N) predicted classes for clean images, UNTESTED elsewhere."""
        return np.where(self.clean, self.aligned.predicted[backbone], UNTESTED)

    def probabilities(
        self, backbone: str, calibrated: bool
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Yield, per training run, (n,) indices of its images and their (n, K) probabilities.

        ``calibrated``: after temperature scaling.
        """
        columns = [f"p:{label}" for label in self.aligned.classes]
        for table, metrics in zip(self.predictions[backbone], self.metrics[backbone], strict=True):
            probabilities = table[columns].to_numpy(np.float64)
            if calibrated:
                probabilities = apply_temperature(probabilities, metrics["temperature"])
            yield self.aligned.positions(table["image"]), probabilities


def read_runs(
    folder: Path, backbones: list[str], seeds: list[int], repeats: int = 1
) -> EvaluatedRuns:
    """Read the given runs; the folder may contain results of backbones that were removed.

    ``repeats`` is the number of splits.
    """
    folders = {name: [folder / name / str(seed) for seed in seeds] for name in backbones}
    positions = {name: [own / "predictions.csv" for own in owns] for name, owns in folders.items()}
    predictions = read_tables(positions, (*COLUMNS, "leaked", "confidence", "width", "height"))
    metrics = {
        name: [read_json(own / "metrics.json") for own in owns] for name, owns in folders.items()
    }
    aligned = align(predictions, positions, splits_of(seeds, repeats))
    return EvaluatedRuns(seeds, folders, predictions, metrics, aligned)
