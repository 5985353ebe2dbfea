"""Reads what stage evaluate wrote of all trainings of the study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from carbench.statistics.answers import COLUMNS, UNTESTED, Answers, align, read_tables
from carbench.tables import read_json


@dataclass(frozen=True)
class Runs:
    """All trainings of the study on the test pictures.

    Attributes:
        seeds: of every backbone, in the order of the lists below.
        folders: where stage evaluate wrote, by backbone, a folder a seed.
        predictions: predictions.csv by backbone, a table a seed.
        metrics: metrics.json by backbone, a document a seed.
        answers: the predictions side by side.
    """

    seeds: list[int]
    folders: dict[str, list[Path]]
    predictions: dict[str, list[pd.DataFrame]]
    metrics: dict[str, list[dict[str, Any]]]
    answers: Answers

    @property
    def backbones(self) -> list[str]:
        """The backbones in the order of params.yaml."""
        return list(self.folders)

    @property
    def clean(self) -> NDArray[np.bool_]:
        """(N,) has the picture no twin in train or val?"""
        return (self.answers.pictures["leaked"] == 0).to_numpy()

    def clean_answers(self, backbone: str) -> NDArray[np.int64]:
        """Return (S, N) predicted classes of the clean pictures, UNTESTED elsewhere."""
        return np.where(self.clean, self.answers.predicted[backbone], UNTESTED)

    def mean(self, backbone: str, part: str, key: str) -> float | None:
        """Return the mean over trainings of a number in a part of metrics.json."""
        documents = [document[part] for document in self.metrics[backbone]]
        if None in documents:
            return None
        return float(np.mean([document[key] for document in documents]))


def read_runs(folder: Path, backbones: list[str], seeds: list[int]) -> Runs:
    """Read the runs of the study, and only those: removed backbones may still lie there."""
    folders = {name: [folder / name / str(seed) for seed in seeds] for name in backbones}
    places = {name: [own / "predictions.csv" for own in owns] for name, owns in folders.items()}
    predictions = read_tables(places, (*COLUMNS, "leaked", "confidence", "width", "height"))
    metrics = {
        name: [read_json(own / "metrics.json") for own in owns] for name, owns in folders.items()
    }
    return Runs(seeds, folders, predictions, metrics, align(predictions, places))
