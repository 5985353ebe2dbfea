"""The list of probable label errors; nothing of it feeds back into training or choosing."""

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
    """Return label_errors.csv: images whose label is probably wrong, the surest first.

    Judged are the images that a training of the backbone did not learn from: those of val, and
    the clean ones of the test. ``score`` is the probability of the given class, the mean over the
    trainings that did not learn from the image, ``suggested_score`` that of the suggested one.

    Args:
        runs: of all backbones.
        train: the folder of all trainings, for their val predictions.
        backbone: whose probabilities are taken.
    """
    tables = []
    classes = [f"p:{label}" for label in runs.aligned.classes]
    for seed, tested, metrics in zip(
        runs.seeds, runs.predictions[backbone], runs.metrics[backbone], strict=True
    ):
        val, _, _ = read_probabilities(train / backbone / str(seed) / "val.csv")
        parts = ((tested[tested["leaked"] == 0], "test"), (val, "val"))
        for table, part in parts:
            calibrated = table[["image", "class", "group", *classes]].assign(part=part)
            calibrated[classes] = apply_temperature(
                table[classes].to_numpy(np.float64), metrics["temperature"]
            )
            tables.append(calibrated)
    every = pd.concat(tables).groupby("image", sort=True)
    images = every[["class", "group"]].first()
    images["part"] = every["part"].min()  # of folds every image is in both: test
    probabilities = every[classes].mean().to_numpy()
    labels = pd.Index(runs.aligned.classes).get_indexer(pd.Index(images["class"]))
    suggested = suggest_labels(probabilities, labels.astype(np.int64))
    rows = np.arange(len(labels))
    images = images.reset_index().assign(
        suggested=np.array(runs.aligned.classes)[suggested],
        score=probabilities[rows, labels],
        suggested_score=probabilities[rows, suggested],
        trainings=every.size().to_numpy(),
    )
    doubtful: pd.DataFrame = images[suggested != labels]
    found = doubtful.sort_values(["score", "image"], kind="stable")
    found["rank"] = np.arange(1, len(found) + 1)
    return found.reindex(columns=COLUMNS)
