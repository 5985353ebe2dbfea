"""Observations of images for drift detection; images cannot be reconstructed."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carbench.core.arrays import write_arrays
from carbench.core.tables import damaged, missing
from carbench.data.images.statistics import IMAGE_STATISTICS, image_statistics
from carbench.deploy.bundle.exported_model import REFERENCE, ExportedModel, read_verified
from carbench.models.onnx_classifier import OnnxModel


@dataclass(frozen=True)
class Observations:
    """Statistics and predictions of N images.

    Attributes:
        statistics: (N,) float64 for each name in IMAGE_STATISTICS, in that order.
        predicted: (N,) int64 class indices.
        confidence: (N,) float64, calibrated probability of the predicted class.
        embedding: (N, D) float32, features of the model.
    """

    statistics: dict[str, NDArray[np.float64]]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    embedding: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.predicted)


def observe(model: OnnxModel, batches: Iterable[NDArray[np.uint8]]) -> Observations:
    """Compute the observations of batches of images (N, S, S, 3)."""
    observed = [(image_statistics(pixels), *model.predict(pixels)) for pixels in batches]
    statistics, probabilities, embeddings = zip(*observed, strict=True)
    scores = np.concatenate(probabilities)
    return Observations(
        {name: np.concatenate([each[name] for each in statistics]) for name in statistics[0]},
        scores.argmax(axis=1),
        scores.max(axis=1).astype(np.float64),
        np.concatenate(embeddings),
    )


# Arrays in the file, in addition to one per statistic.
PREDICTION_ARRAYS = ("predicted", "confidence", "embedding")
# Exceptions of numpy and zipfile for a damaged file: RuntimeError if it appears encrypted,
# TypeError if it is a single array.
READ_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError),
    *(KeyError, RuntimeError, TypeError, ValueError),
)


def write_observations(path: Path, observations: Observations) -> None:
    """Write an .npz file; equal content gives equal bytes."""
    predictions = {name: getattr(observations, name) for name in PREDICTION_ARRAYS}
    write_arrays(path, {**observations.statistics, **predictions})


def read_reference(model: ExportedModel) -> Observations:
    """Read and verify the reference observations of an exported model.

    Raises:
        CarbenchError: the file is missing or was changed after the export.
    """
    read_verified(model, REFERENCE)
    return read_observations(model.reference)


def read_observations(path: Path) -> Observations:
    """Read a file written by :func:`write_observations`.

    Raises:
        CarbenchError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as members:
            read = {name: members[name] for name in (*IMAGE_STATISTICS, *PREDICTION_ARRAYS)}
    except FileNotFoundError:
        raise missing(path) from None
    except READ_ERRORS as error:
        raise damaged(path, f"no readable observations ({error})") from None
    shapes = {name: column.shape for name, column in read.items()}
    *count, _ = shapes.pop("embedding") or (None,)
    if any(shape != tuple(count) for shape in shapes.values()):
        raise damaged(path, "arrays of different lengths")
    if not all(np.isfinite(column).all() for column in read.values()):
        raise damaged(path, "non-finite numbers")
    statistics = {name: read[name] for name in IMAGE_STATISTICS}
    return Observations(statistics, **{name: read[name] for name in PREDICTION_ARRAYS})
