"""The exported model folder: its files and metadata."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from carbench.core.errors import CarbenchError
from carbench.core.tables import read_json
from carbench.data.images.decoding import Fit
from carbench.deploy.bundle.model_metadata import ModelMetadata

MODEL_JSON = "model.json"
MODEL_CARD = "README.md"
EXAMPLE_IMAGE = "example.jpg"
INT8_ONNX = "model.int8.onnx"
LABELS = "labels.json"
ONNX = "model.onnx"
REFERENCE = "reference.npz"
# Advice for a folder that was changed after the export.
RE_EXPORT = "copy the whole exported folder, or export again"


@dataclass(frozen=True)
class ExportedModel:
    """An exported model without its weights.

    Attributes:
        folder: the exported folder.
        version: backbone, seed and first digits of the sha256 of the ONNX file.
        classes: the K class names, in the order of the model output.
        size: side length in pixels of the images that the ONNX model takes.
        fit: how images are fitted to that shape (:func:`carbench.data.images.decoding.resize`).
        threshold: confidence above which an answer counts as sure; None: no target was set.
        set_threshold: minimum probability of a class in a prediction set; None: no sets.
        metadata: the whole content of model.json.
    """

    folder: Path
    version: str
    classes: list[str]
    size: int
    fit: Fit
    threshold: float | None
    set_threshold: float | None
    metadata: ModelMetadata

    @property
    def reference(self) -> Path:
        """Path of the reference observations for drift detection."""
        return self.folder / REFERENCE

    @property
    def example(self) -> Path:
        """Path of the example image."""
        return self.folder / EXAMPLE_IMAGE


def read_model(folder: Path) -> ExportedModel:
    """Read the metadata of an exported folder.

    Raises:
        CarbenchError: the folder has no exported model, or model.json is invalid.
    """
    path = folder / MODEL_JSON
    if not path.is_file():
        raise CarbenchError(
            folder,
            found=f"no {MODEL_JSON}",
            expected="a model written by stage export",
            fix="run `snakemake results/export` or `dvc repro export`, or specify its folder",
        )
    try:
        metadata = ModelMetadata.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise CarbenchError(
            path,
            key=".".join(map(str, first["loc"])) or None,
            found=f"{first['input']!r:.80}",
            expected=f"metadata written by stage export ({first['msg']})",
            fix=RE_EXPORT,
        ) from None
    return ExportedModel(
        folder,
        metadata.version,
        metadata.classes,
        metadata.input.size,
        metadata.input.fit,
        metadata.decision.threshold,
        metadata.decision.set_threshold,
        metadata,
    )


def read_verified(model: ExportedModel, name: str) -> bytes:
    """Read a file of the folder and verify its sha256.

    Raises:
        CarbenchError: the file does not have the sha256 in model.json.
    """
    path = model.folder / name
    if Path(name).name != name or not path.is_file():
        found = "nothing"
    else:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == model.metadata.sha256.get(name):
            return content
        found = "a file that differs from the exported one"
    expected = f"the sha256 in {model.folder / MODEL_JSON}"
    raise CarbenchError(path, found=found, expected=expected, fix=RE_EXPORT)
