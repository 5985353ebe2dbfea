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
from carbench.screening.screening import Images


def training_rows(split: Path, most: int, seed: int) -> tuple[list[SplitRow], list[str]]:
    """Return rows of the training part of split.csv, in file order, and all class names.

    Args:
        split: split.csv.
        most: how many images, about: whole duplicate groups, drawn class by class; 0: all.
        seed: of the draw.
    """
    every = read_split(split, 0)
    rows = [row for row in every if row.split == "train"]
    if 0 < most < len(rows):
        share = most / len(rows)
        parts = assign_groups(_images(rows), {"used": share, "unused": 1 - share}, seed)
        rows = [row for row in rows if parts[row.group] == "used"]
    return rows, classes_of(every)


def load_images(
    pack: Path, rows: list[SplitRow], classes: list[str], probe: ProbeParams, device: torch.device
) -> Images:
    """Read the images of ``rows`` out of the pack and deal their groups to folds."""
    names = {f"fold-{number}": number for number in range(probe.folds)}
    dealt = assign_groups(_images(rows), dict.fromkeys(names, 1 / probe.folds), probe.seed)
    images = [row.image for row in rows]
    content = hashlib.sha256(f"{file_hash(pack / ARRAY)} {images}".encode()).hexdigest()
    return Images(
        PackedImages(pack, images, device),
        torch.tensor([classes.index(row.label) for row in rows]),
        torch.tensor([names[dealt[row.group]] for row in rows]),
        content,
    )


def _images(rows: list[SplitRow]) -> list[GroupedImage]:
    return [GroupedImage(row.image, row.label, "", row.group) for row in rows]
