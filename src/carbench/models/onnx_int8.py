"""Static quantization of an exported model to 8 bits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

import carbench.models.onnx_runtime  # noqa: F401

# isort: split
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from carbench.models.onnx_export import UNQUANTIZED


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterable[NDArray[np.uint8]]) -> None:
        self._feeds = ({"images": pixels} for pixels in batches)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._feeds, None)


def write_int8(source: Path, target: Path, batches: Iterable[NDArray[np.uint8]]) -> None:
    """Quantize an ONNX model of :mod:`carbench.models.onnx_export`.

    Weights and activations of convolutions and matrix products get 8 bits, weights with a scale per
    channel; the nodes before the backbone and the embedding stay in float32.

    Args:
        source: the model.
        target: the file to write.
        batches: batches of training images, (B, S, S, 3), to calibrate the ranges of activations.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        kept = [
            node.name
            for node in graph.node
            if any(name.startswith(UNQUANTIZED) for name in node.input)
        ]
        quantize_static(
            prepared,
            target,
            _Batches(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
        )
