"""Runs in MLflow: on a server, or in a database file."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

# A server that does not answer is asked again by `carbench track`, not for minutes by its client;
# the library reports how it is used unless it is told not to.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from carbench.tracking.trackers import Destination

# Its warnings of each repeated request.
logging.getLogger("urllib3").setLevel(logging.ERROR)

KEY_TAG = "carbench.key"
# Limits of a request to MLflow.
MAX_PARAMS = 100
MAX_PARAM_LENGTH = 6000


class MlflowRun:
    """See :class:`carbench.tracking.trackers.TrackerRun`."""

    def __init__(self, client: MlflowClient, run: str) -> None:
        self._client = client
        self.id = run
        points = client.get_metric_history(run, "val_loss")
        self.last_step = max((point.step for point in points), default=0)

    def log_params(self, params: Mapping[str, str]) -> None:
        """See the protocol."""
        rows = [Param(name, value[:MAX_PARAM_LENGTH]) for name, value in params.items()]
        for start in range(0, len(rows), MAX_PARAMS):
            self._client.log_batch(self.id, params=rows[start : start + MAX_PARAMS])

    def log_metrics(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        """See the protocol."""
        milliseconds = round(1000 * time)
        points = [Metric(name, value, milliseconds, step) for name, value in metrics.items()]
        self._client.log_batch(self.id, metrics=points)

    def log_summary(self, metrics: Mapping[str, float], time: float) -> None:
        """See the protocol."""
        self.log_metrics(metrics, 0, time)

    def log_artifact(self, name: str, path: Path) -> None:
        """See the protocol."""
        if path.is_dir():
            self._client.log_artifacts(self.id, str(path), name)
        else:
            self._client.log_artifact(self.id, str(path), name.rpartition("/")[0] or None)

    def close(self, complete: bool) -> None:
        """See the protocol."""
        if complete:
            self._client.set_terminated(self.id, "FINISHED")


class MlflowTracker:
    """See :class:`carbench.tracking.trackers.Tracker`."""

    title = "MLflow"
    # Its client raises those of requests, too, which are OSErrors.
    errors: tuple[type[Exception], ...] = (MlflowException, OSError)

    def __init__(self, uri: str, project: str) -> None:
        self.address = uri
        self._project = project
        self._client = MlflowClient(uri)
        self._experiment: str | None = None

    def open_run(self, name: str, key: str, tags: Mapping[str, str], run: str | None) -> MlflowRun:
        """See the protocol."""
        if self._experiment is None:
            found = self._client.get_experiment_by_name(self._project)
            self._experiment = (
                found.experiment_id if found else self._client.create_experiment(self._project)
            )
        return MlflowRun(
            self._client, run or self._find(name, key) or self._create(name, key, tags)
        )

    def _find(self, name: str, key: str) -> str | None:
        """Return the id of a run that an earlier process started without noting it."""
        query = f"tags.`{KEY_TAG}` = '{key}' and attributes.run_name = '{name}'"
        found = self._client.search_runs([self._experiment], query, max_results=1)
        return str(found[0].info.run_id) if found else None

    def _create(self, name: str, key: str, tags: Mapping[str, str]) -> str:
        labels = {f"carbench.{tag}": value for tag, value in tags.items()} | {KEY_TAG: key}
        run = self._client.create_run(self._experiment, run_name=name, tags=labels)
        return str(run.info.run_id)


def open_tracker(destination: Destination) -> MlflowTracker:
    """Return MLflow at an address, at MLFLOW_TRACKING_URI, or where MLflow has its default."""
    return MlflowTracker(destination.address or mlflow.get_tracking_uri(), destination.project)
