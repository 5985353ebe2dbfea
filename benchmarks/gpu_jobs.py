"""Define the rows that `gpu.py` measures, the most important first.

All training runs follow `presets/kaggle-cars.yaml` (bfloat16, mixup, weight average), but start
from random weights and freeze none. The images are random, and are cropped and resampled from 8/7
of the model's input size.
"""

from __future__ import annotations

import hashlib
import inspect
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_peers import by_recipe, write_jpegs
from measuring import ROOT, Job, Row
from probes import captured, traced, watched
from steps import CLASSES, MODELS, clock, labelled, make_ceiling, make_trainer, normalizer, pack
from steps import rounds as rounds_of

from carbench.models.backbones import create_model
from carbench.models.devices import move_to_device, peak_memory_mb, set_up_device
from carbench.params.presets import read_preset
from carbench.params.train import TrainParams
from carbench.training import loop
from carbench.training.loop import LabelledImages, fit


@dataclass(frozen=True)
class Sizes:
    """How much to measure."""

    models: tuple[str, ...]
    ends: tuple[str, ...]
    """Models whose whole training runs are measured, end to end."""
    compiled: tuple[str, ...]
    image_size: int
    batch: int
    large_batch: int
    images: int
    """Images per epoch, whatever the batch size."""
    repeats: int
    jpegs: int
    epochs: int
    """Epochs of an end-to-end training run."""
    workers: int


USUAL = Sizes(
    MODELS["cuda"],
    ("mobilenetv3_large_100", "resnet50"),
    ("mobilenetv3_large_100", "resnet50"),
    *(224, 64, 256, 1024, 3, 2000, 2, 14),
)
SMALL = Sizes(
    ("test_resnet", "mobilenetv3_small_050"),
    ("test_resnet",),
    (),
    *(32, 8, 16, 16, 1, 48, 2, 1),
)


@dataclass(frozen=True)
class Bench:
    """Device, recipe, images, sizes and folder that all measurements use."""

    device: torch.device
    params: TrainParams
    images: LabelledImages
    sizes: Sizes
    folder: Path


@dataclass(frozen=True)
class Choice:
    """An alternative to the default training step.

    Attributes:
        changes: keys of the recipe.
        meanwhile: context manager that is active during the steps.
    """

    name: str
    changes: dict[str, Any]
    meanwhile: Callable[[], AbstractContextManager[Any]] = nullcontext


def prepared(device: str, sizes: Sizes) -> tuple[torch.device, TrainParams]:
    """Set torch up as a training run does; return the device and the recipe."""
    changes = {"image_size": sizes.image_size, "batch_size": sizes.batch, "device": device}
    # With this many epochs the learning rate hardly changes while steps are measured.
    changes |= {"epochs": 10_000, "freeze_epochs": 0, "val_batch_size": sizes.large_batch}
    params = TrainParams.model_validate(read_preset(ROOT / "presets/kaggle-cars.yaml")["train"])
    params = params.model_copy(update=changes)
    return set_up_device(params, "train"), params


def all_jobs(folder: Path, device: torch.device, params: TrainParams, sizes: Sizes) -> list[Job]:
    """Return the rows to measure, in order; the seconds are estimates for an H100."""
    rows = pack(folder, sizes.images, sizes.image_size * 8 // 7)
    bench = Bench(device, params, labelled(folder, rows, device), sizes, folder)
    small, large = sizes.batch, sizes.large_batch

    def each(section: str, measure: Callable[[str], Row], seconds: float) -> list[Job]:
        return [Job(section, name, partial(measure, name), seconds) for name in sizes.models]

    jobs = each("Whole step against its ceiling", partial(step, bench, small), 10)
    jobs += each("Kernels of a step", partial(kernels, bench), 8)
    jobs += each("The same training twice", partial(twice, bench), 12)
    for name in sizes.ends:
        for system in ("carbench", "timm"):
            what = f"{system}, {name}"
            measure = partial(end_to_end, bench, system, name)
            jobs.append(Job("End to end, from JPEG files", what, measure, 45))
    jobs += each("The model's step as a CUDA graph", partial(as_graph, bench), 8)
    for choice in CHOICES:
        for name in sizes.models:
            what = f"{choice.name}, {name}"
            jobs.append(Job("Choices", what, partial(compare, bench, choice, name), 6))
    jobs += each(f"Whole step, batches of {large}", partial(step, bench, large), 12)
    compiling = Choice("compile: true", {"compile": True})
    for name in sizes.compiled:
        what = f"{compiling.name}, {name}"
        jobs.append(Job("Choices", what, partial(compare, bench, compiling, name), 80))
    return jobs


def step(bench: Bench, batch: int, name: str) -> Row:
    """Measure images per second of whole steps and of the ceiling, peak memory and utilisation."""
    params = bench.params.model_copy(update={"batch_size": batch})
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(bench.device)
    trainer = make_trainer(name, bench.images, params)
    ceiling = make_ceiling(trainer, bench.images, params)
    steps = bench.sizes.images // batch
    now = partial(clock, bench.device)
    both = list(rounds_of(trainer, ceiling, steps, bench.sizes.repeats, now))
    memory = peak_memory_mb(bench.device)
    # Measured separately, so that the driver's readings cover whole steps only.
    with watched(bench.device) as busy:
        started = time.perf_counter()
        while time.perf_counter() - started < (2 if bench.device.type == "cuda" else 0):
            trainer.train_epoch(1)
    real, best = (statistics.median(column) for column in zip(*both, strict=True))
    ratios = [two / one for one, two in both]
    return {
        "batch": batch,
        "precision": trainer.precision,
        "images/s": round(steps * batch / real),
        "ceiling": round(steps * batch / best),
        "of the ceiling": _middle(ratios, 3),
        "peak MB": round(memory),
        "GPU busy %": str(busy),
    }


def kernels(bench: Bench, name: str) -> Row:
    """Count the kernels of a step, and measure their time and the input path's fraction of it."""
    trainer = make_trainer(name, bench.images, bench.params)
    ceiling = make_ceiling(trainer, bench.images, bench.params)
    steps = bench.sizes.images // bench.params.batch_size
    trainer.train_epoch(0)
    whole = traced(lambda: trainer.train_epoch(1), bench.device)
    alone = traced(lambda: ceiling.steps(steps), bench.device)
    return {
        "launches per step": round(whole.kernels / steps),
        "without input path": round(alone.kernels / steps),
        "kernel ms per step": round(1000 * whole.seconds / steps, 2),
        "fraction in input path": round(1 - alone.seconds / whole.seconds, 3),
        "fraction busy, profiled": round(whole.busy, 3),
        "waits per epoch": whole.waits,
    }


def twice(bench: Bench, name: str) -> Row:
    """Check whether two equal training runs give bit-identical weights and predictions.

    They have two epochs, the first with a frozen body.
    """
    params = bench.params.model_copy(update={"epochs": 2, "freeze_epochs": 1})

    def tensors() -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = move_to_device(
            create_model(name, CLASSES, params.image_size), bench.device, params.channels_last
        )
        parts = (bench.images, bench.images)
        trained = fit(model, *parts, normalizer(bench.device, params), params, 0)
        return {**trained.tensors, "val_logits": trained.val_logits}

    one, other = tensors(), tensors()
    differ = [key for key in one if not torch.equal(one[key], other[key])]
    largest = max((float((one[key] - other[key]).abs().max()) for key in differ), default=0.0)
    content = b"".join(tensor.cpu().contiguous().numpy().tobytes() for tensor in one.values())
    return {
        "same bits": "no" if differ else "yes",
        "tensors": len(one),
        "tensors that differ": len(differ),
        "largest difference": largest,
        "SHA-256": hashlib.sha256(content).hexdigest()[:12],
    }


def end_to_end(bench: Bench, system: str, name: str) -> Row:
    """Measure a whole training run in its own process, including decoding."""
    data = bench.folder / "jpegs"
    if not data.exists():
        write_jpegs(data, bench.sizes.jpegs, CLASSES)
    sizes, params = bench.sizes, bench.params
    options = {"model": name, "lr": 1e-3, "epochs": sizes.epochs, "size": sizes.image_size}
    options |= {"batch": params.batch_size, "seed": 0, "device": bench.device.type}
    options |= {"workers": sizes.workers if system == "timm" else 0}
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
    return by_recipe(system, data, options, bench.device)


def as_graph(bench: Bench, name: str) -> Row:
    """Measure what a CUDA graph of forward, backward, optimiser and weight average would gain."""
    if bench.device.type != "cuda":
        raise RuntimeError("a CPU has no CUDA graphs")
    steps = bench.sizes.images // bench.params.batch_size
    ceiling = make_ceiling(
        make_trainer(name, bench.images, bench.params), bench.images, bench.params
    )
    ceiling.steps(3)
    started = clock(bench.device)
    ceiling.steps(steps)
    eager = clock(bench.device) - started
    graph = captured(ceiling)
    graph.replay()
    started = clock(bench.device)
    for _ in range(steps):
        graph.replay()
    replayed = clock(bench.device) - started
    return {
        "eager ms": round(1000 * eager / steps, 2),
        "graph ms": round(1000 * replayed / steps, 2),
        "times as fast": round(eager / replayed, 2),
    }


def compare(bench: Bench, choice: Choice, name: str) -> Row:
    """Measure an alternative's seconds per epoch as multiples of the default's, alternating."""
    other_params = bench.params.model_copy(update=choice.changes)
    default = make_trainer(name, bench.images, bench.params)
    other = make_trainer(name, bench.images, other_params)

    def epoch(trainer: loop.Trainer, number: int) -> float:
        started = clock(bench.device)
        trainer.train_epoch(number)
        return clock(bench.device) - started

    default.train_epoch(0)
    with choice.meanwhile():
        first = epoch(other, 0)
    ratios = []
    for repeat in range(bench.sizes.repeats):
        usual = epoch(default, repeat + 1)
        with choice.meanwhile():
            ratios.append(epoch(other, repeat + 1) / usual)
    return {"times the default's": _middle(ratios, 2), "first epoch s": round(first, 1)}


def _middle(values: list[float], digits: int) -> str:
    """Return the median and the range as text."""
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return f"{statistics.median(values):.{digits}f} ({low} to {high})"


@contextmanager
def _tf32() -> Iterator[None]:
    """Compute float32 matrix products and convolutions in TF32."""
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    for backend in backends:
        backend.allow_tf32 = True
    try:
        yield
    finally:
        for backend in backends:
            backend.allow_tf32 = False


@contextmanager
def _resampling_in_float32() -> Iterator[None]:
    before = loop.tf32
    loop.tf32 = nullcontext
    try:
        yield
    finally:
        loop.tf32 = before


@contextmanager
def _any_algorithms() -> Iterator[None]:
    torch.set_deterministic_debug_mode("default")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode("error")


@contextmanager
def _filled_memory() -> Iterator[None]:
    """Fill new tensors with NaN, which deterministic mode does by default."""
    before = loop.Trainer.train_epoch
    loop.Trainer.train_epoch = inspect.unwrap(before)  # type: ignore[method-assign]
    try:
        yield
    finally:
        loop.Trainer.train_epoch = before  # type: ignore[method-assign]


@contextmanager
def _timed_algorithms() -> Iterator[None]:
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = False


CHOICES = [
    Choice("precision: float32", {"precision": "float32"}),
    Choice("float32 in TF32", {"precision": "float32"}, _tf32),
    Choice("not deterministic", {}, _any_algorithms),
    Choice("channels_last: false", {"channels_last": False}),
    Choice("new memory filled with NaN", {}, _filled_memory),
    Choice("ema: 0", {"ema": 0.0}),
    Choice("cudnn.benchmark", {}, _timed_algorithms),
    Choice("resampling in float32", {}, _resampling_in_float32),
    Choice("fused: false", {"fused": False}),
]
