"""Classification of an image file as in the service, and its peak memory. Without torch."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np

import carbench
from carbench.data.images.decoding import Fit, decode_resized
from carbench.models.onnx_classifier import OnnxModel


def decode_and_predict(model: OnnxModel, file: bytes, side: int, fit: Fit) -> object:
    """Decode and classify an image file as the service does, without HTTP and prediction log.

    Args:
        model: model with an input of ``side`` x ``side`` pixels.
        file: content of the file, in a format supported by
            :func:`carbench.data.images.decoding.decode`.
        side: side length in pixels.
        fit: how the image is fitted to a square.
    """
    image, _ = decode_resized(file, side, fit)
    return model.predict(np.asarray(image)[None])


def serving_peak_memory_mb(onnx: Path, file: Path, side: int, fit: Fit) -> float:
    """Return the peak memory of a process that loads a model and classifies a file, in MB.

    It includes Python, NumPy, Pillow, ONNX Runtime with one thread, and the model.
    """
    source = str(Path(carbench.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "carbench.cost.serving", onnx, file, str(side), fit],
        env=os.environ | {"PYTHONPATH": source},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(done.stdout) / 1e6


def _own_peak() -> int:
    """Return the peak memory of this process in bytes.

    On Linux, getrusage would return the peak of the parent process if that is higher.
    """
    try:
        status = Path("/proc/self/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most


def _main(onnx: str, file: str, side: str, fit: str) -> None:
    (known,) = (each for each in get_args(Fit) if each == fit)
    model = OnnxModel(Path(onnx), threads=1)
    for _ in range(3):
        decode_and_predict(model, Path(file).read_bytes(), int(side), known)
    sys.stdout.write(f"{_own_peak()}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
