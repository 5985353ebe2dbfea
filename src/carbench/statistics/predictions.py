"""Predictions of all training runs as aligned arrays.

With k-fold splits, training runs are tested on different images; missing predictions are
:data:`UNTESTED`, so that all further code is the same for both kinds of split.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from carbench.core.errors import CarbenchError
from carbench.core.tables import damaged, missing

UNTESTED = -1
PredictionFiles = dict[str, list[Path]]  # by backbone, one file per seed


@dataclass(frozen=True)
class AlignedPredictions:
    """Predictions of all training runs for N images.

    Attributes:
        images: one row per image, indexed by name: class, group and other columns that do not
            depend on the training run.
        classes: the K class names.
        labels: (N,) true class indices.
        groups: (N,) duplicate groups.
        predicted: (S, N) predicted class indices by backbone, one row per seed; UNTESTED where the
            run was not tested on the image.
        splits: (S,) split of each seed; None if there is only one.
    """

    images: pd.DataFrame
    classes: list[str]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    predicted: dict[str, NDArray[np.int64]]
    splits: NDArray[np.int64] | None = None

    def correct(self, backbone: str) -> NDArray[np.bool_]:
        """Return (S, N): whether the image was tested and classified correctly."""
        return np.equal(self.predicted[backbone], self.labels)

    def tested(self, backbone: str) -> NDArray[np.bool_]:
        """Return (S, N): whether the run was tested on the image."""
        return np.not_equal(self.predicted[backbone], UNTESTED)

    def positions(self, images: pd.Series[str]) -> NDArray[np.intp]:
        """Return the indices of the named images."""
        return self.images.index.get_indexer(pd.Index(images))


# Columns of every prediction table.
COLUMNS = ("image", "class", "group", "predicted")


def read_tables(
    files: PredictionFiles, columns: Sequence[str] = COLUMNS
) -> dict[str, list[pd.DataFrame]]:
    """Read the CSV files of all training runs; class names stay text, even "1" or "NA".

    Raises:
        CarbenchError: a file is missing, damaged, or lacks one of ``columns``.
    """
    return {
        name: [parse_predictions(path, path, columns) for path in paths]
        for name, paths in files.items()
    }


def parse_predictions(
    source: Path | IO[bytes], where: Path, columns: Sequence[str] = COLUMNS
) -> pd.DataFrame:
    """Return the predictions of one training run; class names stay text, even "1" or "NA".

    Args:
        source: the CSV file, or its content.
        where: its name for error messages.
        columns: required columns.

    Raises:
        CarbenchError: it is missing, damaged, or lacks one of ``columns``.
    """
    return parse_csv(source, where, columns, {"image": str, "class": str, "predicted": str})


def read_probabilities(
    path: Path,
) -> tuple[pd.DataFrame, NDArray[np.float64], NDArray[np.int64]]:
    """Return a file of predictions, its (N, K) probabilities and the (N,) true class indices.

    Raises:
        CarbenchError: as :func:`parse_predictions`.
    """
    table = parse_predictions(path, path)
    columns = [column for column in table.columns if column.startswith("p:")]
    labels = pd.Index(columns).get_indexer(pd.Index("p:" + table["class"]))
    if not columns or (labels < 0).any():
        raise damaged(path, "no probability column for a class of the images")
    return table, table[columns].to_numpy(np.float64), labels.astype(np.int64)


def parse_csv(
    source: Path | IO[bytes],
    where: Path,
    columns: Sequence[str],
    dtype: type[str] | Mapping[Hashable, type[str]],
) -> pd.DataFrame:
    """Return a CSV file as a table; ``dtype`` overrides the types that pandas infers.

    Raises:
        CarbenchError: as :func:`parse_predictions`.
    """
    try:
        table = pd.read_csv(source, keep_default_na=False, dtype=dtype)
    except FileNotFoundError:
        raise missing(where) from None
    except ValueError as error:  # of pandas: no columns, unequal rows, no UTF-8
        raise damaged(where, str(error)) from None
    lacking = [column for column in columns if column not in table]
    if lacking:
        raise damaged(where, f"no column {', '.join(lacking)}")
    return table


def splits_of(seeds: Sequence[int], repeats: int) -> NDArray[np.int64] | None:
    """Return which of the ``split.repeats`` splits each seed uses; None if there is only one."""
    return np.array(seeds) % repeats if repeats > 1 else None


def align(
    tables: dict[str, list[pd.DataFrame]],
    files: PredictionFiles,
    splits: NDArray[np.int64] | None = None,
) -> AlignedPredictions:
    """Align the predictions of all training runs by image.

    Args:
        tables: one table per seed by backbone: image, class, group, predicted, p:... and others.
        files: their paths, for error messages.
        splits: (S,) split of each seed; None if there is only one.

    Raises:
        CarbenchError: two backbones were tested on different images with the same seed.
    """
    every = [table for own in tables.values() for table in own]
    first = next(iter(tables.values()))
    for name, own in tables.items():
        for table, reference, path in zip(own, first, files[name], strict=True):
            if set(table["image"]) != set(reference["image"]):
                raise CarbenchError(
                    path,
                    found="images that differ from those of another backbone with the same seed",
                    expected="the same images for all backbones",
                    fix="delete the folder above it and run again",
                )
    images = pd.concat(every).drop_duplicates("image").set_index("image")
    classes = [column[2:] for column in every[0].columns if column.startswith("p:")]
    codes = pd.Index(classes)
    predicted_classes = {}
    for name, own in tables.items():
        predicted_classes[name] = np.full((len(own), len(images)), UNTESTED, np.int64)
        for row, table in zip(predicted_classes[name], own, strict=True):
            positions = images.index.get_indexer(pd.Index(table["image"]))
            row[positions] = codes.get_indexer(pd.Index(table["predicted"]))
    return AlignedPredictions(
        images,
        classes,
        codes.get_indexer(pd.Index(images["class"])).astype(np.int64),
        images["group"].to_numpy(np.int64),
        predicted_classes,
        splits,
    )
