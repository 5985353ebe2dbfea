"""Table of probable label errors, which is not used for training or model selection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from carbench.evaluation.label_errors import suggest_labels
from carbench.models.temperature import apply_temperature
from carbench.statistics.evaluated_runs import EvaluatedRuns
from carbench.statistics.predictions import read_probabilities

COLUMNS = ["rank", "image", "class", "suggested", "score", "suggested_score", "trainings", "part"]
COLUMNS += ["group"]


def label_error_table(runs: EvaluatedRuns, train: Path, backbone: str) -> pd.DataFrame:
    """Return label_errors.csv: images whose label is probably wrong, the most certain first.

    Considered are the images that a training run of the backbone was not trained on: val images and
    clean test images. ``score`` is the probability of the given class, averaged over the runs that
    were not trained on the image, ``suggested_score`` that of the suggested class.

    Args:
        runs: evaluations of all backbones.
        train: folder of all training runs, for their val predictions.
        backbone: the backbone whose probabilities are used.
    """
    tables = []
    classes = [f"p:{label}" for label in runs.aligned.classes]
    for seed, tested, metrics in zip(
        runs.seeds, runs.predictions[backbone], runs.metrics[backbone], strict=True
    ):
        val, _, _ = read_probabilities(train / backbone / str(seed) / "val.csv")
        parts = ((tested[tested["leaked"] == 0], "test"), (val, "val"))
        for table, part in parts:
            calibrated = table[["image", "class", "group", *classes]].assign(tested=part == "test")
            calibrated[classes] = apply_temperature(
                table[classes].to_numpy(np.float64), metrics["temperature"]
            )
            tables.append(calibrated)
    by_image = pd.concat(tables).groupby("image", sort=True)
    images = by_image[["class", "group"]].first()
    # With folds, every image is in both.
    images["part"] = np.where(by_image["tested"].any(), "test", "val")
    probabilities = by_image[classes].mean().to_numpy()
    labels = pd.Index(runs.aligned.classes).get_indexer(pd.Index(images["class"]))
    suggested = suggest_labels(probabilities, labels.astype(np.int64))
    rows = np.arange(len(labels))
    images = images.reset_index().assign(
        suggested=np.array(runs.aligned.classes)[suggested],
        score=probabilities[rows, labels],
        suggested_score=probabilities[rows, suggested],
        trainings=by_image.size().to_numpy(),
    )
    doubtful: pd.DataFrame = images[suggested != labels]
    ordered = doubtful.sort_values(["score", "image"], kind="stable")
    ordered["rank"] = np.arange(1, len(ordered) + 1)
    return ordered.reindex(columns=COLUMNS)
