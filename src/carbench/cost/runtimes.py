"""The timed calls in each runtime, from images in memory to probabilities in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from carbench.cost.serving import decode_and_predict
from carbench.cost.untrained_onnx import GraphShape, onnx_path
from carbench.data.images.decoding import Fit
from carbench.models.onnx_classifier import OnnxModel
from carbench.models.onnx_export import ExportableModel
from carbench.models.timing import Configuration, Runtime

Pixels = NDArray[np.uint8]
TimedCalls = dict[Configuration, Callable[[], object]]


def onnx_calls(
    backbone: str,
    folder: Path,
    shape: GraphShape,
    file: bytes,
    fit: Fit,
    threads: list[int],
    images: list[int],
    int8: bool,
) -> TimedCalls:
    """Return the calls of ONNX Runtime, as in the service: model only, and with decoding.

    Args:
        backbone: its name in the study.
        folder: folder of the ONNX files.
        shape: image sizes and classes of the study.
        file: content of the image file to decode.
        fit: how images are fitted to a square.
        threads: numbers of threads to time.
        images: batch sizes to time.
        int8: whether to time the 8-bit model.
    """
    runtime: Runtime = "onnx-int8" if int8 else "onnx"
    calls: TimedCalls = {}
    for count in threads:
        model = OnnxModel(onnx_path(folder, backbone, int8), count)
        for many in images:
            pixels = shape.random_images(many)
            alone = Configuration(backbone, runtime, count, many, decoding=False)
            calls[alone] = partial(model.predict, pixels)
        whole = Configuration(backbone, runtime, count, 1, decoding=True)
        calls[whole] = partial(decode_and_predict, model, file, shape.side, fit)
    return calls


def torch_calls(
    backbone: str,
    model: ExportableModel,
    shape: GraphShape,
    images: list[int],
    device: torch.device,
) -> TimedCalls:
    """Return the same computation in eager torch, on the CPU or on a GPU with both transfers.

    Args:
        backbone: its name in the study.
        model: the model, on the device.
        shape: image sizes and classes of the study.
        images: batch sizes to time.
        device: the device.
    """
    runtime: Runtime = "torch-cuda" if device.type == "cuda" else "torch"
    return {
        Configuration(backbone, runtime, 1, many, decoding=False): partial(
            _predict, model, shape.random_images(many), device
        )
        for many in images
    }


@torch.inference_mode()
def _predict(model: ExportableModel, pixels: Pixels, device: torch.device) -> object:
    probabilities, embedding = model(torch.from_numpy(pixels).to(device))
    return probabilities.cpu(), embedding.cpu()
