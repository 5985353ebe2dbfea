"""Runs as TensorBoard's event files: a folder per run; images are shown, other files are not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from carbench.tracking.trackers import Destination, run_folder

DEFAULT_FOLDER = "runs"


class TensorboardRun:
    """See :class:`carbench.tracking.trackers.TrackerRun`."""

    def __init__(self, folder: Path) -> None:
        self.id = folder.name
        self.last_step = _last_step(folder)
        # A process that was killed may have added some metrics of the epoch after that.
        self._writer = SummaryWriter(str(folder), purge_step=self.last_step + 1)

    def log_params(self, params: Mapping[str, str]) -> None:
        """See the protocol."""
        rows = [f"| {name} | {value} |" for name, value in params.items()]
        self._writer.add_text("params", "\n".join(["| parameter | value |", "|---|---|", *rows]))
        self._writer.flush()

    def log_metrics(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        """See the protocol."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step, walltime=time)
        self._writer.flush()

    def log_summary(self, metrics: Mapping[str, float], time: float) -> None:
        """See the protocol."""
        self.log_metrics(metrics, 0, time)

    def log_artifact(self, name: str, path: Path) -> None:
        """See the protocol."""
        if path.suffix in (".png", ".jpg"):
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image(name, pixels, dataformats="HWC")
            self._writer.flush()

    def close(self, complete: bool) -> None:
        """See the protocol."""
        self._writer.close()


class TensorboardTracker:
    """See :class:`carbench.tracking.trackers.Tracker`."""

    title = "TensorBoard"
    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = str(folder)

    def open_run(
        self, name: str, key: str, tags: Mapping[str, str], run: str | None
    ) -> TensorboardRun:
        """See the protocol."""
        opened = TensorboardRun(run_folder(self._folder, name, key))
        if run is None:
            opened.log_params({**tags, "key": key})
        return opened


def open_tracker(destination: Destination) -> TensorboardTracker:
    """Return TensorBoard, which reads a folder."""
    return TensorboardTracker(destination.root / (destination.address or DEFAULT_FOLDER))


def _last_step(folder: Path) -> int:
    """Return the last epoch that all curves in a folder have; 0: none."""
    if not folder.is_dir():
        return 0
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    curves = [events.Scalars(tag) for tag in events.Tags()["scalars"]]
    # What has only step 0 is a metric of the whole run.
    return min((curve[-1].step for curve in curves if curve[-1].step), default=0)
