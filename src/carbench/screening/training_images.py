"""The training images that candidates are screened on, in folds of whole duplicate groups."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from carbench.core.provenance import file_hash
from carbench.data.loading.batches import PackedImages
from carbench.data.pack.reading import ARRAY, find_rows
from carbench.data.split.assignment import assign_groups
from carbench.data.split.table import SplitRows, read_split
from carbench.params.screen import ProbeParams
from carbench.screening.screener import ScreeningImages


def select_training_rows(split: Path, limit: int, seed: int) -> SplitRows:
    """Return the training rows of split.csv.

    Args:
        split: split.csv.
        limit: approximate number of images, sampled class by class in whole groups; 0: all.
        seed: seed of the sample.
    """
    rows = read_split(split, 0).of_split("train")
    if 0 < limit < len(rows):
        fraction = limit / len(rows)
        fractions = {"used": fraction, "unused": 1 - fraction}
        selection = assign_groups(rows.groups, rows.labels, fractions, seed)
        rows = rows.select(np.flatnonzero(selection == "used"))
    return rows


def load_screening_images(
    pack: Path, rows: SplitRows, probe: ProbeParams, device: torch.device
) -> ScreeningImages:
    """Load the images of ``rows`` from the pack and assign their groups to folds."""
    fractions = {f"fold-{number}": 1 / probe.folds for number in range(probe.folds)}
    folds = assign_groups(rows.groups, rows.labels, fractions, probe.seed)
    content = f"{file_hash(pack / ARRAY)} {rows.images.tolist()}"
    return ScreeningImages(
        PackedImages(pack, find_rows(pack, rows.images), device),
        torch.from_numpy(rows.labels).long(),
        torch.tensor([int(fold.removeprefix("fold-")) for fold in folds.tolist()]),
        hashlib.sha256(content.encode()).hexdigest(),
    )
