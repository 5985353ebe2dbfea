"""Small exported folders for tests: an ONNX model that classifies by the mean colour."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from carbench.deploy.bundle.observations import observe, write_observations
from carbench.models.onnx_classifier import OnnxModel

CLASSES = ["blue", "green", "red", "grey"]
SIZE = 32


def colour_model(scale: float = 12.0, classes: list[str] = CLASSES) -> bytes:
    """Return an ONNX file with the same interface as those of stage export."""
    weights = np.array([[-1, -1, 2, 0], [-1, 2, -1, 0], [2, -1, -1, 0]], np.float32) * scale
    bias = np.array([0, 0, 0, 1], np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "255"], ["shares"]),
        helper.make_node("ReduceMean", ["shares", "axes"], ["embedding"], keepdims=0),
        helper.make_node("Gemm", ["embedding", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = {
        "255": np.float32(255),
        "axes": np.array([1, 2], np.int64),
        "weights": weights[:, : len(classes)],
        "bias": bias[: len(classes)],
    }
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(classes)]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 3]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"classes": json.dumps(classes)})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def coloured(rng: np.random.Generator, count: int, size: int = SIZE) -> np.ndarray[Any, Any]:
    """Return noisy images (count, size, size, 3), each dominated by one colour."""
    pixels = rng.integers(0, 200, (count, size, size, 3))
    pixels[np.arange(count), :, :, rng.integers(0, 3, count)] += 40
    return pixels.astype(np.uint8)


def write_bundle(folder: Path, scale: float = 12.0, **metadata: Any) -> Path:
    """Write an exported folder; a different scale gives a different model.

    Args:
        folder: folder to create.
        scale: factor of the logits.
        metadata: keys of model.json to replace.
    """
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(colour_model(scale))
    (folder / "labels.json").write_text(json.dumps(CLASSES))
    rng = np.random.default_rng(0)
    model = OnnxModel(folder / "model.onnx", 1)
    write_observations(folder / "reference.npz", observe(model, [coloured(rng, 60)]))
    Image.fromarray(coloured(rng, 1, 120)[0]).save(folder / "example.jpg")
    content = {
        "version": f"colour-0-{sha256(folder / 'model.onnx')[:12]}",
        "backbone": "colour",
        "seed": 0,
        "classes": CLASSES,
        "input": {"size": SIZE, "fit": "squash"},
        "temperature": 1.0,
        "accuracy": {"value": 0.9, "low": 0.8, "high": 0.95},
        "decision": {"threshold": 1.0, "set_threshold": 0.0},
    }
    seal(folder, content | metadata)
    return folder


def write_study(root: Path) -> Path:
    """Write a bundle and 12 images, laid out as in a finished study."""
    write_bundle(root / "results/export")
    for number, pixels in enumerate(coloured(np.random.default_rng(1), 12, 96)):
        path = root / f"results/data/images/{CLASSES[number % 3]}/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def seal(folder: Path, metadata: dict[str, Any]) -> None:
    """Write model.json with the hashes of the files in the folder."""
    files = [path for path in sorted(folder.iterdir()) if path.name != "model.json"]
    hashes = {path.name: sha256(path) for path in files}
    (folder / "model.json").write_text(json.dumps(metadata | {"sha256": hashes}))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
