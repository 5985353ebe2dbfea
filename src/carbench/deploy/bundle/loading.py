"""Loading an exported model folder: all files are verified against model.json.

The loaded bundle is in memory; later changes to the folder do not affect it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from carbench.core.errors import CarbenchError
from carbench.deploy.bundle.exported_model import (
    EXAMPLE_IMAGE,
    INT8_ONNX,
    LABELS,
    MODEL_JSON,
    ONNX,
    RE_EXPORT,
    ExportedModel,
    read_model,
    read_verified,
)
from carbench.deploy.bundle.observations import Observations, read_reference
from carbench.models.onnx_classifier import OnnxModel


@dataclass(frozen=True)
class Bundle:
    """A verified model in memory, ready to be served.

    Attributes:
        model: the model's metadata.
        classifier: the ONNX model.
        reference: reference observations for drift detection.
        example: an example image file; None if the folder has none.
    """

    model: ExportedModel
    classifier: OnnxModel
    reference: Observations
    example: bytes | None


def load_bundle(folder: Path, int8: bool = False) -> Bundle:
    """Load and verify an exported folder.

    Raises:
        CarbenchError: a file is missing or has a wrong sha256, class names differ between files, or
            the reference belongs to another model.
    """
    model = read_model(folder)
    contents = {name: read_verified(model, name) for name in model.metadata.sha256}
    name = INT8_ONNX if int8 else ONNX
    if name not in contents:
        raise CarbenchError(
            folder,
            found=f"no {'8-bit' if int8 else 'ONNX'} model",
            expected=f"{name}, listed in {MODEL_JSON}",
            fix="set export.int8: true in params.yaml and export again, or omit --int8"
            if int8
            else RE_EXPORT,
        )
    try:
        classifier = OnnxModel(contents[name], threads=1)
    except Exception as error:  # onnxruntime raises various exceptions of its own
        raise CarbenchError(
            folder / name, found=f"no valid ONNX model ({error})", expected="one", fix=RE_EXPORT
        ) from None
    _compare_classes(folder, name, classifier.classes, model.classes)
    if LABELS in contents:
        _compare_classes(folder, LABELS, json.loads(contents[LABELS]), model.classes)
    reference = read_reference(model)
    _check_reference(model, classifier, reference)
    return Bundle(model, classifier, reference, contents.get(EXAMPLE_IMAGE))


def copy_bundle(source: Path, target: Path) -> None:
    """Copy the files of an exported folder.

    Raises:
        CarbenchError: the folder cannot be read, or there is no space for the copy.
    """
    read_model(source)
    target.mkdir(parents=True)
    try:
        for path in source.iterdir():
            if path.is_file():
                shutil.copyfile(path, target / path.name)
    except OSError as error:
        raise CarbenchError(
            error.filename2 or error.filename or source,
            found=f"a copy that failed ({error.strerror})",
            expected=f"enough space for a copy of {source}",
            fix="free disk space, or set TMPDIR to a folder on another disk",
        ) from None


def _compare_classes(folder: Path, name: str, found: Any, expected: list[str]) -> None:
    if found != expected:
        raise CarbenchError(
            folder / name,
            key="classes",
            found=f"{found!r:.200}",
            expected=f"the classes in {MODEL_JSON}, {expected!r:.200}",
            fix=RE_EXPORT,
        )


def _check_reference(model: ExportedModel, classifier: OnnxModel, reference: Observations) -> None:
    """Raise if the reference does not match the model."""
    zeros = np.zeros((1, model.size, model.size, 3), np.uint8)
    probabilities, embedding = classifier.predict(zeros)
    if probabilities.shape[1] != len(model.classes):
        raise CarbenchError(
            model.folder / MODEL_JSON,
            key="classes",
            found=f"{len(model.classes)} names",
            expected=f"{probabilities.shape[1]}, one per model output",
            fix=RE_EXPORT,
        )
    width = reference.embedding.shape[1]
    valid_classes = len(reference) and reference.predicted.max() < len(model.classes)
    if width != embedding.shape[1] or not valid_classes:
        raise CarbenchError(
            model.reference,
            found=f"classes or an embedding ({width} dimensions) of another model",
            expected=f"those of the ONNX model ({embedding.shape[1]} dimensions)",
            fix=RE_EXPORT,
        )
