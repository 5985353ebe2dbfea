"""Inference with an exported model; needs only ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carbench.models.onnx_runtime import onnxruntime

Pixels = NDArray[np.uint8]
Numbers = NDArray[np.float32]


class OnnxModel:
    """A model exported by :mod:`carbench.models.onnx_export`, on the CPU.

    Args:
        model: the ONNX file, or its content.
        threads: threads of one prediction.
    """

    def __init__(self, model: Path | bytes, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads would take the cores from the image decoders.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    @property
    def classes(self) -> list[str] | None:
        """The class names in the file's metadata, in the order of the output."""
        names = self._session.get_modelmeta().custom_metadata_map.get("classes")
        return None if names is None else list(json.loads(names))

    def predict(
        self, pixels: Pixels, options: onnxruntime.RunOptions | None = None
    ) -> tuple[Numbers, Numbers]:
        """Return calibrated probabilities (N, K) and embeddings (N, E) of (N, S, S, 3) pixels.

        Another thread can cancel it by setting ``terminate`` of the ``options``.
        """
        probabilities, embedding = self._session.run(None, {"images": pixels}, options)
        return probabilities, embedding

    def probabilities(self, batches: Iterable[Pixels]) -> Numbers:
        """Return the probabilities (N, K) of all images of the batches."""
        return np.concatenate([self.predict(pixels)[0] for pixels in batches])
