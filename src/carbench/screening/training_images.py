"""The training images that candidates are screened on, in folds of whole duplicate groups."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from carbench.core.provenance import file_hash
from carbench.data.loading.batches import PackedImages
from carbench.data.pack.reading import ARRAY
from carbench.data.split.assignment import GroupedImage, assign_groups
from carbench.data.split.table import SplitRow, classes_of, read_split
from carbench.params.screen import ProbeParams
from carbench.screening.screener import ScreeningImages


def select_training_rows(split: Path, limit: int, seed: int) -> tuple[list[SplitRow], list[str]]:
    """Return the training rows of split.csv, in file order, and all class names.

    Args:
        split: split.csv.
        limit: approximate number of images, sampled class by class in whole groups; 0: all.
        seed: seed of the sample.
    """
    all_rows = read_split(split, 0)
    rows = [row for row in all_rows if row.split == "train"]
    if 0 < limit < len(rows):
        fraction = limit / len(rows)
        selection = assign_groups(
            _grouped_images(rows), {"used": fraction, "unused": 1 - fraction}, seed
        )
        rows = [row for row in rows if selection[row.group] == "used"]
    return rows, classes_of(all_rows)


def load_screening_images(
    pack: Path, rows: list[SplitRow], classes: list[str], probe: ProbeParams, device: torch.device
) -> ScreeningImages:
    """Load the images of ``rows`` from the pack and assign their groups to folds."""
    names = {f"fold-{number}": number for number in range(probe.folds)}
    fold_of_group = assign_groups(
        _grouped_images(rows), dict.fromkeys(names, 1 / probe.folds), probe.seed
    )
    images = [row.image for row in rows]
    content = hashlib.sha256(f"{file_hash(pack / ARRAY)} {images}".encode()).hexdigest()
    return ScreeningImages(
        PackedImages(pack, images, device),
        torch.tensor([classes.index(row.label) for row in rows]),
        torch.tensor([names[fold_of_group[row.group]] for row in rows]),
        content,
    )


def _grouped_images(rows: list[SplitRow]) -> list[GroupedImage]:
    return [GroupedImage(row.image, row.label, "", row.group) for row in rows]
