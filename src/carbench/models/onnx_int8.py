"""The model in 8 bits: smaller, often faster, and a little wrong; how wrong is measured."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from carbench.models.onnx_graph import UNQUANTIZED


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterable[NDArray[np.uint8]]) -> None:
        self._feeds = ({"images": pixels} for pixels in batches)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._feeds, None)


def write_int8(source: Path, target: Path, batches: Iterable[NDArray[np.uint8]]) -> None:
    """Write the 8-bit form of an ONNX model of :mod:`carbench.models.onnx_graph`.

    Weights and activations of convolutions and matrix products are 8-bit, weights with a scale for
    each channel; what comes before the backbone and the embedding stay as they are.

    Args:
        source: the model.
        target: the file to write.
        batches: of training images, (B, S, S, 3), which tell the ranges of the numbers.
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
