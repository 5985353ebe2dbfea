"""The exported folder: what lies in it, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carbench.errors import CarbenchError
from carbench.images import Fit
from carbench.tables import read_json

ABOUT = "model.json"
CARD = "README.md"
EXAMPLE = "example.jpg"
INT8_ONNX = "model.int8.onnx"
LABELS = "labels.json"
ONNX = "model.onnx"
REFERENCE = "reference.npz"


@dataclass(frozen=True)
class Deployed:
    """An exported model without its weights.

    Attributes:
        folder: where it lies.
        version: backbone, seed and the beginning of the sha256 of its ONNX file.
        classes: the K class names, in the order of the model's output.
        size: pixels of both sides of the pictures that the ONNX model takes.
        fit: how a picture is brought to that shape (:func:`carbench.images.resize`).
        about: all of model.json.
    """

    folder: Path
    version: str
    classes: list[str]
    size: int
    fit: Fit
    about: dict[str, Any]

    @property
    def reference(self) -> Path:
        """The pictures that new ones are held against, as the model saw them."""
        return self.folder / REFERENCE

    @property
    def example(self) -> Path:
        """A picture to try."""
        return self.folder / EXAMPLE


def read_model(folder: Path) -> Deployed:
    """Read what an exported folder says of itself.

    Raises:
        CarbenchError: there is no exported model in it.
    """
    place = folder / ABOUT
    if not place.is_file():
        raise CarbenchError(
            folder,
            found=f"no {ABOUT}",
            expected="a model as stage export writes it",
            fix="run `snakemake results/export` or `dvc repro export`, or name its folder",
        )
    about = read_json(place)
    shape = about["input"]
    return Deployed(folder, about["version"], about["classes"], shape["size"], shape["fit"], about)
