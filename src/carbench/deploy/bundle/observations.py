"""What is recorded of images: numbers that cannot be turned back into them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carbench.core.tables import damaged, missing
from carbench.data.images.statistics import IMAGE_STATISTICS, image_statistics
from carbench.deploy.bundle.exported_model import REFERENCE, ExportedModel, read_verified
from carbench.models.onnx_classifier import OnnxModel


@dataclass(frozen=True)
class Observations:
    """What is recorded of N images.

    Attributes:
        statistics: (N,) float64 each, by the names of IMAGE_STATISTICS, in that order.
        predicted: (N,) int64 class indices.
        confidence: (N,) float64, the calibrated probability of the predicted class.
        embedding: (N, D) float32, where the model sees the images.
    """

    statistics: dict[str, NDArray[np.float64]]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    embedding: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.predicted)


def observe(model: OnnxModel, batches: Iterable[NDArray[np.uint8]]) -> Observations:
    """Return what is recorded of images (N, S, S, 3): statistics, and the model's predictions."""
    seen = [(image_statistics(pixels), *model.predict(pixels)) for pixels in batches]
    probabilities = np.concatenate([each for _, each, _ in seen])
    return Observations(
        {name: np.concatenate([each[name] for each, _, _ in seen]) for name in seen[0][0]},
        probabilities.argmax(axis=1),
        probabilities.max(axis=1).astype(np.float64),
        np.concatenate([each for _, _, each in seen]),
    )


# Members of the file, beside one for each statistic.
OTHERS = ("predicted", "confidence", "embedding")
# What numpy and zipfile raise at a damaged file: RuntimeError where it seems to be encrypted,
# TypeError where it is a single array.
UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError),
    *(KeyError, RuntimeError, TypeError, ValueError),
)


def write_observations(path: Path, observations: Observations) -> None:
    """Write an .npz, the same to the byte for the same content: numpy dates its members 1980."""
    others = {name: getattr(observations, name) for name in OTHERS}
    with path.open("wb") as file:  # a path alone would be given the ending .npz
        np.savez(file, allow_pickle=False, **observations.statistics, **others)


def read_reference(model: ExportedModel) -> Observations:
    """Read the reference of an exported model.

    Raises:
        CarbenchError: there is none, or it is not the one that was exported.
    """
    read_verified(model, REFERENCE)
    return read_observations(model.reference)


def read_observations(path: Path) -> Observations:
    """Read what :func:`write_observations` wrote.

    Raises:
        CarbenchError: there is no such file, or it cannot be what was written.
    """
    try:
        with np.load(path, allow_pickle=False) as members:
            read = {name: members[name] for name in (*IMAGE_STATISTICS, *OTHERS)}
    except FileNotFoundError:
        raise missing(path) from None
    except UNREADABLE as error:
        raise damaged(path, f"no readable observations ({error})") from None
    shapes = {name: column.shape for name, column in read.items()}
    *count, _ = shapes.pop("embedding") or (None,)
    if any(shape != tuple(count) for shape in shapes.values()):
        raise damaged(path, "columns of different lengths")
    if not all(np.isfinite(column).all() for column in read.values()):
        raise damaged(path, "numbers that are not finite")
    statistics = {name: read[name] for name in IMAGE_STATISTICS}
    return Observations(statistics, **{name: read[name] for name in OTHERS})
