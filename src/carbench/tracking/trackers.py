"""What an experiment tracker does for carbench: one protocol, one module per tracker.

Each tracker is an optional package, imported only when it is chosen.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from carbench.core.extras import STUDY_EXTRAS, explain_missing_module

# By the name of --to: the module here, and the extra that installs the package it needs.
MODULES = {
    "mlflow": "carbench.tracking.mlflow_tracker",
    "wandb": "carbench.tracking.wandb_tracker",
    "dvclive": "carbench.tracking.dvclive_tracker",
    "tensorboard": "carbench.tracking.tensorboard_tracker",
}


@dataclass(frozen=True)
class Destination:
    """Where runs go.

    Attributes:
        root: the study.
        project: MLflow's experiment, W&B's project.
        address: MLflow's tracking URI, or the folder that DVCLive or TensorBoard writes to; None:
            the tracker's default.
    """

    root: Path
    project: str
    address: str | None = None


class TrackerRun(Protocol):
    """One run in a tracker.

    Attributes:
        id: by which it is opened again.
        last_step: the last epoch that the tracker has; 0: none, or it cannot tell.
    """

    id: str
    last_step: int

    def log_params(self, params: Mapping[str, str]) -> None:
        """Add parameters; those that it has already are the same."""

    def log_metrics(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        """Add a point to each curve: an epoch, which ended at a time in seconds since 1970."""

    def log_summary(self, metrics: Mapping[str, float], time: float) -> None:
        """Set metrics of the whole run, which were known at a time in seconds since 1970."""

    def log_artifact(self, name: str, path: Path) -> None:
        """Copy a file or a folder to a name among the run's files, such as ``figures/a.png``."""

    def close(self, complete: bool) -> None:
        """Write everything; ``complete``: the run has ended."""


class Tracker(Protocol):
    """A tracker, reached without asking anything of it yet.

    Attributes:
        title: its name, for messages.
        address: what distinguishes this destination from others of the same tracker.
        errors: the exceptions by which its library tells that it cannot be reached or written to.
    """

    title: str
    address: str
    errors: tuple[type[Exception], ...]

    def open_run(self, name: str, key: str, tags: Mapping[str, str], run: str | None) -> TrackerRun:
        """Continue a run or start it.

        Args:
            name: ``train@resnet-0``.
            key: hash of what the run is made from.
            tags: about the run.
            run: the id of the run to continue; None: look for it by its key, or start it.
        """


class TrackerModule(Protocol):
    """What the module of a tracker has."""

    def open_tracker(self, destination: Destination) -> Tracker:
        """Return the tracker."""


def run_folder(destination: Path, name: str, key: str) -> Path:
    """Return the folder of a run, for trackers that keep runs in folders."""
    return destination / f"{name}-{key[:8]}"


def open_tracker(name: str, destination: Destination) -> Tracker:
    """Return a tracker by the name of ``--to``.

    Raises:
        CarbenchError: a package that it needs is not installed.
    """
    try:
        module: TrackerModule = importlib.import_module(MODULES[name])
    except ModuleNotFoundError as error:
        explained = explain_missing_module(
            error, f"carbench track --to {name}", (name, *STUDY_EXTRAS)
        )
        if explained is None:
            raise
        raise explained from None
    return module.open_tracker(destination)
