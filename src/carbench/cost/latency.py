"""Timing of all backbones of a study in one process."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import torch

from carbench.core.parallel import available_cores
from carbench.core.progress import progress
from carbench.cost.runtimes import TimedCalls, onnx_calls, torch_calls
from carbench.cost.untrained_onnx import GraphShape, build_deployable
from carbench.data.images.decoding import Fit
from carbench.models.devices import set_up_device
from carbench.models.timing import TimedRun, time_interleaved
from carbench.params.cost import CostParams

log = logging.getLogger("carbench")


def time_backbones(
    models: dict[str, str],
    graphs: Path,
    shape: GraphShape,
    file: Path,
    fit: Fit,
    params: CostParams,
) -> list[TimedRun]:
    """Time all backbones in all runtimes, interleaved; all of them are in memory at the same time.

    torch uses a single thread: further threads would keep spinning for a while and disturb the next
    measurement.

    Args:
        models: timm's name of each backbone.
        graphs: the folder that :func:`carbench.cost.untrained_onnx.write_graphs` wrote to.
        shape: image sizes and classes of the study.
        file: the image to decode.
        fit: how images are fitted to a square.
        params: parameters of stage cost.

    Raises:
        CarbenchError: ``cost.device`` requires a GPU, but there is none.
    """
    device = set_up_device(params, "cost")
    torch.set_num_threads(1)
    threads = usable_threads(params.threads)
    images = sorted({1, params.batch_size})
    content = file.read_bytes()
    devices = list(dict.fromkeys([torch.device("cpu"), device]))
    calls: TimedCalls = {}
    for backbone, model in models.items():
        for int8 in [False, True] if params.int8 else [False]:
            calls |= onnx_calls(backbone, graphs, shape, content, fit, threads, images, int8)
        for cost_device in devices:
            deployable = build_deployable(backbone, model, shape).to(cost_device)
            calls |= torch_calls(backbone, deployable, shape, images, cost_device)
    return time_interleaved(
        calls, params.rounds, params.seed, partial(progress, description="rounds")
    )


def usable_threads(wanted: int) -> list[int]:
    """Return the numbers of threads to measure: 1, and ``wanted`` limited to available cores."""
    cores = available_cores()
    if wanted > cores:
        log.warning(
            "cost.threads is %d, but only %d cores are available: measuring with %d threads",
            *(wanted, cores, cores),
        )
    return sorted({1, min(wanted, cores)})
