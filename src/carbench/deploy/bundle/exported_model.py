"""The exported folder: what lies in it, and what it says of itself."""

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
# What to do about a folder that is not as it was exported.
RE_EXPORT = "copy the whole exported folder, or export again"


@dataclass(frozen=True)
class ExportedModel:
    """An exported model without its weights.

    Attributes:
        folder: where it lies.
        version: backbone, seed and the beginning of the sha256 of its ONNX file.
        classes: the K class names, in the order of the model's output.
        size: pixels of both sides of the images that the ONNX model takes.
        fit: how an image is brought to that shape (:func:`carbench.data.images.decoding.resize`).
        threshold: of the confidence, above which an answer is sure; None: none was asked for.
        set_threshold: the probability that a class needs to be in the set; None: no sets.
        about: all of model.json.
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
        """The images that new ones are held against, as the model saw them."""
        return self.folder / REFERENCE

    @property
    def example(self) -> Path:
        """An image to try."""
        return self.folder / EXAMPLE_IMAGE


def read_model(folder: Path) -> ExportedModel:
    """Read what an exported folder says of itself.

    Raises:
        CarbenchError: there is no exported model in it, or model.json is not as it was written.
    """
    place = folder / MODEL_JSON
    if not place.is_file():
        raise CarbenchError(
            folder,
            found=f"no {MODEL_JSON}",
            expected="a model as stage export writes it",
            fix="run `snakemake results/export` or `dvc repro export`, or name its folder",
        )
    try:
        metadata = ModelMetadata.model_validate(read_json(place))
    except ValidationError as error:
        first = error.errors()[0]
        raise CarbenchError(
            place,
            key=".".join(map(str, first["loc"])) or None,
            found=f"{first['input']!r:.80}",
            expected=f"what stage export writes ({first['msg']})",
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
    """Return a file of the folder, which has to be the one that was exported.

    Raises:
        CarbenchError: it is not the file whose sha256 model.json states.
    """
    path = model.folder / name
    if Path(name).name != name or not path.is_file():
        found = "nothing"
    else:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == model.metadata.sha256.get(name):
            return content
        found = "another file than was exported"
    expected = f"the sha256 that {model.folder / MODEL_JSON} states"
    raise CarbenchError(path, found=found, expected=expected, fix=RE_EXPORT)
