"""The exported model, ready to answer: ONNX Runtime and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from carbench.deployed.folder import INT8_ONNX, ONNX, read_model
from carbench.deployed.observations import Observations
from carbench.errors import CarbenchError
from carbench.pictures.statistics import image_statistics
from carbench.provenance import file_hash

Pixels = NDArray[np.uint8]
Numbers = NDArray[np.float32]


class OnnxModel:
    """A file of :mod:`carbench.exporting.graph` on the CPU.

    Args:
        path: the ONNX file.
        threads: that one prediction computes with.
    """

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that wait in a loop would take the cores from those who decode.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def predict(self, pixels: Pixels) -> tuple[Numbers, Numbers]:
        """Return calibrated probabilities (N, K) and embeddings (N, E) of (N, S, S, 3) pixels."""
        probabilities, embedding = self._session.run(None, {"pictures": pixels})
        return probabilities, embedding

    def probabilities(self, batches: Iterable[Pixels]) -> Numbers:
        """Return the probabilities (N, K) of all pictures of the batches."""
        return np.concatenate([self.predict(pixels)[0] for pixels in batches])

    def observe(self, batches: Iterable[Pixels]) -> Observations:
        """Return what is recorded of pictures: statistics, and what the model makes of them."""
        seen = [(image_statistics(pixels), *self.predict(pixels)) for pixels in batches]
        probabilities = np.concatenate([each for _, each, _ in seen])
        return Observations(
            {name: np.concatenate([each[name] for each, _, _ in seen]) for name in seen[0][0]},
            probabilities.argmax(axis=1),
            probabilities.max(axis=1).astype(np.float64),
            np.concatenate([each for _, _, each in seen]),
        )


class Classifier(OnnxModel):
    """The model of an exported folder.

    Args:
        folder: what stage export wrote.
        threads: that one prediction computes with.
        int8: take the 8-bit model.

    Raises:
        CarbenchError: there is no such model, or it is not the one that was exported.
    """

    def __init__(self, folder: Path, threads: int = 1, int8: bool = False) -> None:
        self.model = read_model(folder)
        path = folder / (INT8_ONNX if int8 else ONNX)
        expected = self.model.about["sha256"].get(path.name)
        if expected is None:
            raise CarbenchError(
                folder,
                found="no 8-bit model",
                expected=INT8_ONNX,
                fix="set export.int8: true in params.yaml and run again, or do without --int8",
            )
        if not path.is_file() or file_hash(path) != expected:
            raise CarbenchError(
                path,
                found="another file than was exported" if path.exists() else "nothing",
                expected=f"the sha256 that {folder / 'model.json'} tells",
                fix="delete the folder and export again",
            )
        super().__init__(path, threads)
