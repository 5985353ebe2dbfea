"""Measure a GPU's utilisation, count the kernels of a step, and capture a step as a CUDA graph."""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from steps import Ceiling
from torch.profiler import ProfilerActivity, profile

KERNELS = ("kernel", "gpu_memcpy", "gpu_memset")
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
SAMPLE_SECONDS = 0.1


class Busy:
    """The utilisation of a GPU: as text, the mean of the driver's readings in percent."""

    def __init__(self) -> None:
        self.readings: list[float] = []
        self.problem = ""

    def __str__(self) -> str:
        if self.readings:
            return f"{statistics.mean(self.readings):.0f}"
        return f"no reading ({self.problem or 'too short'})"


@contextmanager
def watched(device: torch.device) -> Iterator[Busy]:
    """Read the driver's utilisation every tenth of a second; needs nvidia-ml-py."""
    busy, over = Busy(), threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            try:
                busy.readings.append(torch.cuda.utilization(device))
            except Exception as error:  # the driver's library may raise anything
                busy.problem = type(error).__name__
                return

    if device.type != "cuda":
        busy.problem = "no GPU"
        yield busy
        return
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield busy
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True)
class Trace:
    """A profile.

    Attributes:
        kernels: their number (on a CPU: outermost operations).
        seconds: time during which at least one ran.
        busy: that time as a fraction of the time from the first to the last.
        waits: number of calls that waited for the GPU.
    """

    kernels: int
    seconds: float
    busy: float
    waits: int


def traced(work: Callable[[], object], device: torch.device) -> Trace:
    """Run ``work`` under torch's profiler."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = [event for event in json.loads(path.read_text())["traceEvents"] if "dur" in event]
    categories = KERNELS if device.type == "cuda" else ("cpu_op",)
    spans = sorted(
        (event["ts"], -event["dur"]) for event in events if event.get("cat") in categories
    )
    outermost, covered, end = 0, 0.0, -1.0
    for start, minus in spans:
        stop = start - minus
        if stop > end:
            outermost += start >= end
            covered += stop - max(start, end)
            end = stop
    count = len(spans) if device.type == "cuda" else outermost
    whole = end - spans[0][0] if spans else 1.0
    # The last wait is the one of this function.
    waits = sum(event["name"] in WAITS for event in events) - (device.type == "cuda")
    return Trace(count, covered / 1e6, covered / whole, waits)


def captured(ceiling: Ceiling) -> torch.cuda.CUDAGraph:
    """Capture a ceiling's step as a CUDA graph; each replay is a step.

    In a graph the learning rate and the decay of the weight average are constants, which a training
    run would have to change between replays.
    """
    for group in ceiling._optimizer.param_groups:
        group["capturable"] = True
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        ceiling.steps(3)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ceiling.steps(1)
    return graph


def environment(device: torch.device) -> dict[str, Any]:
    """Return the date, the device and the versions that measurements depend on."""
    import timm

    about: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "torch": torch.__version__}
    about |= {"timm": timm.__version__, "device": "CPU"}
    if device.type == "cuda":
        about["device"] = torch.cuda.get_device_name(device)
        about["CUDA"] = torch.version.cuda
        about["cuDNN"] = torch.backends.cudnn.version()
    return about
