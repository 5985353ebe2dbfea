"""What Prometheus may know: requests, times, predictions, drift; of all workers together."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

__all__ = ["CONTENT_TYPE_LATEST"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)

REQUESTS = Counter("carbench_requests_total", "Requests by route and status", ["route", "status"])
LATENCY = Histogram(
    "carbench_request_seconds", "Time to answer a request", ["route"], buckets=SECONDS
)
INSIDE = Gauge(
    "carbench_requests_inside",
    "Requests with pictures that are being answered",
    multiprocess_mode="livesum",
)
PREDICTIONS = Counter("carbench_predictions_total", "Predictions by class", ["class"])
CONFIDENCE = Histogram(
    "carbench_confidence", "Calibrated probability of the predicted class", buckets=SHARES
)
DRIFT = Gauge(
    "carbench_drift_alarm",
    "1 where the newest pictures differ from the reference, by test",
    ["family", "test"],
    multiprocess_mode="mostrecent",
)
DRIFT_P = Gauge(
    "carbench_drift_p_adjusted",
    "How probable such a difference is by chance, corrected for the number of tests",
    ["family", "test"],
    multiprocess_mode="mostrecent",
)
DRIFT_PICTURES = Gauge(
    "carbench_drift_pictures",
    "Pictures in the window that was last held against the reference",
    multiprocess_mode="mostrecent",
)
MODEL = Gauge(
    "carbench_model", "1 for the version that is served", ["version"], multiprocess_mode="max"
)


def exposition() -> bytes:
    """Return everything in Prometheus' text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    _forget_dead_workers(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)


def _forget_dead_workers(folder: Path) -> None:
    """Take what was inside a worker that was killed out of the sum of what is inside."""
    for file in folder.glob("gauge_live*.db"):
        process = int(file.stem.rpartition("_")[2])
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            mark_process_dead(process)
