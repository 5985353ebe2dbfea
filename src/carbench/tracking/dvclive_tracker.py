"""Runs as DVCLive's files: a folder per run, with metrics, parameters, images and artifacts.

DVC is not told: neither an experiment nor a dvc.yaml is written, because carbench has its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# The library reports how it is used unless it is told not to.
os.environ.setdefault("DVC_NO_ANALYTICS", "true")
os.environ.setdefault("DVCLIVE_LOGLEVEL", "ERROR")

from dvclive import Live
from dvclive.error import DvcLiveError

from carbench.tracking.trackers import Destination, run_folder

DEFAULT_FOLDER = "dvclive"


class DvcliveRun:
    """See :class:`carbench.tracking.trackers.TrackerRun`."""

    def __init__(self, folder: Path) -> None:
        self.id = folder.name
        self._live = Live(str(folder), resume=True, report=None, save_dvc_exp=False, dvcyaml=False)
        self._last_steps = {
            path.stem: _last_step(path) for path in folder.glob("plots/metrics/*.tsv")
        }
        self.last_step = min(self._last_steps.values(), default=0)

    def log_params(self, params: Mapping[str, str]) -> None:
        """See the protocol."""
        self._live.log_params(dict(params))

    def log_metrics(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        """See the protocol."""
        self._live.step = step
        for name, value in metrics.items():
            # A process that was killed may have added some metrics of the epoch.
            if self._last_steps.get(name, 0) < step:
                self._live.log_metric(name, value)
        self._live.make_summary()

    def log_summary(self, metrics: Mapping[str, float], time: float) -> None:
        """See the protocol."""
        for name, value in metrics.items():
            self._live.log_metric(name, value, plot=False)
        self._live.make_summary()

    def log_artifact(self, name: str, path: Path) -> None:
        """See the protocol."""
        if path.suffix in (".png", ".jpg"):
            self._live.log_image(name.rpartition("/")[2], path)
        else:
            self._live.log_artifact(path, copy=True, cache=False)

    def close(self, complete: bool) -> None:
        """See the protocol."""
        self._live.end()


class DvcliveTracker:
    """See :class:`carbench.tracking.trackers.Tracker`."""

    title = "DVCLive"
    errors: tuple[type[Exception], ...] = (DvcLiveError, OSError)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = str(folder)

    def open_run(self, name: str, key: str, tags: Mapping[str, str], run: str | None) -> DvcliveRun:
        """See the protocol."""
        opened = DvcliveRun(run_folder(self._folder, name, key))
        opened.log_params({f"carbench.{tag}": value for tag, value in {**tags, "key": key}.items()})
        return opened


def open_tracker(destination: Destination) -> DvcliveTracker:
    """Return DVCLive, which writes to a folder."""
    return DvcliveTracker(destination.root / (destination.address or DEFAULT_FOLDER))


def _last_step(path: Path) -> int:
    """Return the last step in a file of a metric: a header, then lines that begin with the step."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return int(lines[-1].partition("\t")[0]) if len(lines) > 1 else 0
