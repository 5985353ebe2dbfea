"""What a model costs: parameters, multiply-accumulates, latency, throughput, memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from carbench.models.devices import place

# The first runs pay for allocation and, on a GPU, for choosing kernels.
WARM_UP = 5


@torch.inference_mode()
def measure_cost(
    model: nn.Module, image_size: int, device: torch.device, batch_size: int, repeats: int
) -> dict[str, Any]:
    """Return a model's cost for RGB pictures of ``image_size`` pixels.

    ``parameters`` and ``macs`` (multiply-accumulates of one picture) are exact; ``latency_ms`` is
    of one picture, ``throughput`` (pictures a second) of ``batch_size``; both are medians of
    ``repeats`` timed runs. ``peak_memory_mb`` is the device's peak on a GPU, the process's
    resident memory on a CPU.
    """
    # Without gradients: the counter hooks those of tokens, which inference mode has none of.
    model = place(model, device).eval().requires_grad_(False)
    one, many = (
        torch.rand(count, 3, image_size, image_size, device=device).contiguous(
            memory_format=torch.channels_last
        )
        for count in (1, batch_size)
    )
    macs = count_macs(model, one)
    single = times(lambda: model(one), device, repeats)
    batch = times(lambda: model(many), device, repeats)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "macs": macs,
        "latency_ms": {
            "median": 1000 * statistics.median(single),
            "p10": 1000 * single[len(single) // 10],
            "p90": 1000 * single[-1 - len(single) // 10],
        },
        "throughput": batch_size / statistics.median(batch),
        "peak_memory_mb": _peak_memory(device) / 1e6,
    }


@torch.inference_mode()
def count_macs(model: nn.Module, one: Tensor) -> int:
    """Return the multiply-accumulates of a forward pass of one image (1, 3, H, W), any device."""
    with FlopCounterMode(display=False) as counter:
        model(one)
    return int(counter.get_total_flops() // 2)


def times(run: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Return the sorted seconds of each of ``repeats`` runs, after a warm-up."""
    seconds = []
    for repeat in range(WARM_UP + repeats):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if repeat >= WARM_UP:
            seconds.append(time.perf_counter() - started)
    return sorted(seconds)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)
