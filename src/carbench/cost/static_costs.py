"""Export and exact costs of all backbones of a study, in parallel, before the timing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from carbench.core.parallel import process_map
from carbench.cost.serving import serving_peak_memory_mb
from carbench.cost.untrained_onnx import GraphShape, build_deployable, onnx_path, write_graphs
from carbench.data.images.decoding import Fit
from carbench.models.macs import count_macs, count_parameters


@dataclass(frozen=True)
class StaticCosts:
    """A row of exact.csv, and the rows of memory.csv, of one backbone."""

    exact: dict[str, Any]
    memory: list[dict[str, Any]]


def measure_static_costs(
    models: dict[str, str], shape: GraphShape, folder: Path, file: Path, fit: Fit, int8: bool
) -> list[StaticCosts]:
    """Write the graphs of all backbones to a folder; return their sizes, counts and peak memory.

    Call this before torch has started threads or used a GPU in this process, which is forked.

    Args:
        models: timm's name of each backbone.
        shape: image sizes and classes of the study.
        folder: output folder of :func:`carbench.cost.untrained_onnx.write_graphs`.
        file: the image to decode.
        fit: how images are fitted to a square.
        int8: whether to export 8-bit models, too.

    Raises:
        CarbenchError: a backbone cannot be exported.
    """
    prepare = partial(_prepare, shape=shape, folder=folder, file=file, fit=fit, int8=int8)
    return list(process_map(prepare, models.items(), max_pending=len(models)))


def _prepare(
    item: tuple[str, str], shape: GraphShape, folder: Path, file: Path, fit: Fit, int8: bool
) -> StaticCosts:
    backbone, model = item
    torch.set_num_threads(1)
    write_graphs(backbone, model, shape, folder, int8)
    forms = {"onnx": onnx_path(folder, backbone, int8=False)}
    if int8:
        forms["onnx-int8"] = onnx_path(folder, backbone, int8=True)
    net = build_deployable(backbone, model, shape).model
    one = torch.rand(1, 3, shape.image_size, shape.image_size)
    exact = {
        "backbone": backbone,
        "model": model,
        "parameters": count_parameters(net),
        "macs": count_macs(net, one),
        "onnx_bytes": forms["onnx"].stat().st_size,
        "int8_bytes": forms["onnx-int8"].stat().st_size if int8 else "",
    }
    peaks = {
        name: serving_peak_memory_mb(path, file, shape.side, fit) for name, path in forms.items()
    }
    memory = [
        {"backbone": backbone, "runtime": name, "peak_mb": f"{peak:.6g}"}
        for name, peak in peaks.items()
    ]
    return StaticCosts(exact, memory)
