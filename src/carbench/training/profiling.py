"""A profile of a few training steps: a trace of the torch profiler, and a table of their parts.

Both are measurements. They are written next to the results, never among them, and a write that
fails does not stop the training.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from carbench.core.atomic import move_into_place, staging_folder
from carbench.core.provenance import hardware
from carbench.params.train import TrainParams
from carbench.training.optim import steps_per_epoch
from carbench.training.profile_table import Clock, StepTimes, format_profile, step_times

log = logging.getLogger("carbench")

TRACE = "trace.json.gz"
TABLE = "profile.md"
# Steps of the profiled epoch, in this order: without the profiler, because first steps allocate
# memory and choose kernels; with it, discarded, because its own start takes time; in the profile.
WAIT, WARMUP, ACTIVE = 5, 5, 10
# Steps that suffice for a profile, with as many more without the profiler as in it.
ENOUGH_STEPS = WAIT + WARMUP + 2 * ACTIVE
# Without it, the profiler reports on stderr that it starts, and that there is no GPU.
SILENT = "99"

Item = TypeVar("Item")


class StepProfiler:
    """Profiles steps of one epoch, the first that it is given.

    Args:
        folder: folder to write :data:`TRACE` and :data:`TABLE` to; None: nothing is profiled.
        device: the device of the training run.
    """

    def __init__(self, folder: Path | None, device: torch.device) -> None:
        self._folder = folder
        self._device = device
        self._profile: Any = None
        self._times: StepTimes | None = None
        self._rest_started = self._rest = self._validation = Clock()
        self._rest_steps = 0

    @contextmanager
    def epoch(self, steps: int) -> Iterator[None]:
        """Profile some of the steps of this epoch; :meth:`end_of_step` has to follow each."""
        if self._folder is None or self._times is not None:
            yield
            return
        active = max(1, min(ACTIVE, steps - 1))
        warmup = min(WARMUP, steps - active)
        activities = [ProfilerActivity.CPU]
        if self._device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(
            activities=activities,
            schedule=schedule(
                wait=min(WAIT, steps - active - warmup), warmup=warmup, active=active, repeat=1
            ),
            on_trace_ready=lambda ready: self._keep(ready, active),
        )
        os.environ.setdefault("KINETO_LOG_LEVEL", SILENT)
        self._profile.start()
        try:
            yield
            self._rest = self._now() - self._rest_started
        finally:
            if self._times is None:  # the epoch was interrupted
                self._profile.on_trace_ready = None
                self._profile.stop()

    def end_of_step(self) -> None:
        """Tell the profiler that a training step has ended."""
        if self._profile is None:  # no step of this epoch is profiled
            return
        if self._times is not None:
            self._rest_steps += 1
            return
        self._profile.step()
        if self._times is not None:
            self._profile.stop()
            self._rest_started = self._now()

    @contextmanager
    def validation(self) -> Iterator[None]:
        """Measure the validation that ends an epoch."""
        started = self._now()
        yield
        self._validation = self._now() - started

    def save(
        self, model: nn.Module, params: TrainParams, precision: str, images: int, val_images: int
    ) -> None:
        """Write the files, once, after the validation of the profiled epoch.

        Args:
            model: the timm model that is trained.
            params: its recipe.
            precision: the precision of the training run.
            images: number of training images.
            val_images: number of images in val.
        """
        if self._folder is None or self._times is None or self._profile is None:
            return  # not profiled, not yet, or saved before
        config: Any = model.pretrained_cfg
        machine = hardware()
        on_gpu = self._device.type == "cuda"
        text = format_profile(
            self._folder.name,
            [
                f"{config['architecture']}, {params.image_size} pixels, {precision}, "
                f"{params.batch_size} images per step",
                torch.cuda.get_device_name(self._device)
                if on_gpu
                else f"{params.threads} of {machine['cores']} cores, {machine['processor']}",
                f"torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            ],
            self._times,
            params.batch_size,
            self._rest / self._rest_steps if self._rest_steps else None,
            steps_per_epoch(images, params.batch_size),
            val_images,
            self._validation,
        )
        try:
            with staging_folder(self._folder) as staging:
                self._profile.export_chrome_trace(str(staging / TRACE))
                (staging / TABLE).write_text(text, encoding="utf-8")
                for name in (TRACE, TABLE):
                    move_into_place(staging / name, self._folder / name)
        except (OSError, RuntimeError) as error:  # torch raises a RuntimeError
            log.warning("no profile in %s: %s", self._folder, error)
        else:
            log.info("profile of %d steps: %s", self._times.steps, self._folder / TABLE)
        self._profile = None

    def _keep(self, ready: Any, steps: int) -> None:
        self._times = step_times(ready.events(), steps)

    def _now(self) -> Clock:
        """Return the time after the last kernel."""
        if self._profile is not None and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return Clock(time.perf_counter(), time.process_time())


def labelled(items: Iterable[Item], label: str) -> Iterator[Item]:
    """Iterate over ``items``; getting each of them has a label in the trace."""
    iterator = iter(items)
    with suppress(StopIteration):
        while True:
            with record_function(label):
                item = next(iterator)
            yield item
