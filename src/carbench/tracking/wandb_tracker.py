"""Runs in Weights & Biases: its service, a server of one's own, or files (WANDB_MODE=offline)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

# The library reports its own errors unless it is told not to.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
os.environ.setdefault("WANDB_SILENT", "true")

import wandb

from carbench.tracking.trackers import Destination

IMAGE_FORMATS = (".png", ".jpg")


class WandbRun:
    """See :class:`carbench.tracking.trackers.TrackerRun`."""

    def __init__(self, run: wandb.Run) -> None:
        self._run = run
        self.id = run.id
        self.last_step = max(run.step - 1, 0)  # the step that comes next; offline always 0

    def log_params(self, params: Mapping[str, str]) -> None:
        """See the protocol."""
        self._run.config.update(dict(params), allow_val_change=True)

    def log_metrics(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        """See the protocol."""
        self._run.log({**metrics, "epoch": step, "_timestamp": time}, step=step, commit=True)

    def log_summary(self, metrics: Mapping[str, float], time: float) -> None:
        """See the protocol."""
        self._run.summary.update(dict(metrics))

    def log_artifact(self, name: str, path: Path) -> None:
        """See the protocol; images are shown among the run's media."""
        if path.suffix in IMAGE_FORMATS:
            self._run.summary.update({name: wandb.Image(str(path))})
            return
        artifact = wandb.Artifact(
            f"{self.id}-{re.sub('[^A-Za-z0-9_.-]', '-', name)}",
            type="model" if path.is_dir() or path.suffix == ".safetensors" else "result",
        )
        if path.is_dir():
            artifact.add_dir(str(path))
        else:
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def close(self, complete: bool) -> None:
        """See the protocol; W&B marks a run as running again when it is continued."""
        self._run.finish()


class WandbTracker:
    """See :class:`carbench.tracking.trackers.Tracker`."""

    title = "W&B"
    errors: tuple[type[Exception], ...] = (wandb.Error, OSError)

    def __init__(self, root: Path, project: str) -> None:
        self._root = root
        self._project = project
        settings = wandb.Settings()
        offline = "offline" if os.environ.get("WANDB_MODE") == "offline" else settings.base_url
        self.address = f"{offline} {settings.entity or ''} {project}"

    def open_run(self, name: str, key: str, tags: Mapping[str, str], run: str | None) -> WandbRun:
        """See the protocol; the id is made from the name and the key."""
        return WandbRun(
            wandb.init(
                project=self._project,
                id=run or f"{re.sub('[^A-Za-z0-9_.-]', '-', name)}-{key[:12]}",
                name=name,
                config={"carbench": {**tags, "key": key}},
                tags=[tags["stage"]],
                dir=str(self._root),
                resume="allow",
                reinit="create_new",  # several runs are open at a time
                settings=wandb.Settings(
                    # Of the process that tracks, not of the one that trains.
                    x_disable_stats=True,
                    x_disable_meta=True,
                    disable_git=True,
                    disable_code=True,
                    console="off",
                ),
            )
        )


def open_tracker(destination: Destination) -> WandbTracker:
    """Return W&B, which reads its own settings: WANDB_BASE_URL, WANDB_ENTITY, WANDB_MODE."""
    return WandbTracker(destination.root, destination.project)
