"""Metrics for Prometheus: requests, times and predictions of all workers, the model, drift."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
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
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from carbench.deploy.drift.testing import Drift, Outcome

__all__ = ["CONTENT_TYPE_LATEST"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)

REQUESTS = Counter("carbench_requests_total", "Requests by route and status", ["route", "status"])
LATENCY = Histogram(
    "carbench_request_seconds", "Time to answer a request", ["route"], buckets=SECONDS
)
IN_WORK = Gauge(
    "carbench_requests_in_work", "Requests that are being answered", multiprocess_mode="livesum"
)
RECEIVING = Gauge(
    "carbench_requests_receiving",
    "Requests whose body has not arrived yet",
    multiprocess_mode="livesum",
)
PREDICTIONS = Counter("carbench_predictions_total", "Predictions by class", ["class"])
CONFIDENCE = Histogram(
    "carbench_confidence", "Calibrated probability of the predicted class", buckets=SHARES
)
UNSURE = Counter(
    "carbench_unsure_total", "Predictions that are not sure enough for the wanted error"
)


class ModelState:
    """Gauges of the model that is served now: nothing remains of one that was replaced.

    Args:
        version: of the model.
        drift: the latest comparison of its predictions with its reference, if there was one.
        age: seconds since that comparison.
    """

    def __init__(self, version: str, drift: Drift | None, age: float) -> None:
        self._version = version
        self._drift = drift
        self._age = age

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges, for prometheus_client."""
        model = GaugeMetricFamily(
            "carbench_model", "1 for the version that is served", labels=["version"]
        )
        model.add_metric([self._version], 1)
        yield model
        if self._drift is None:
            return
        columns: dict[str, tuple[str, Callable[[Outcome], float]]] = {
            "carbench_drift_alarm": (
                "1 where the model makes something else of the newest images, by test",
                lambda test: float(test.alarm),
            ),
            "carbench_drift_different": (
                "1 where the newest images differ from the reference, by test",
                lambda test: float(test.different),
            ),
            "carbench_drift_effect": (
                "How much they differ, 0 to 1, by test",
                lambda test: test.effect,
            ),
            "carbench_drift_p_adjusted": (
                "How probable such a difference is by chance, corrected for the number of tests",
                lambda test: test.p_adjusted,
            ),
        }
        for name, (words, value) in columns.items():
            family = GaugeMetricFamily(name, words, labels=["family", "test"])
            for test in self._drift.tests:
                family.add_metric([test.family, test.name], value(test))
            yield family
        images = "Images in the window that was last compared with the reference"
        yield GaugeMetricFamily("carbench_drift_images", images, len(self._drift.window))
        age = "Seconds since the last comparison"
        yield GaugeMetricFamily("carbench_drift_age_seconds", age, self._age)


def exposition(state: ModelState) -> bytes:
    """Return everything in Prometheus' text format: of all workers, and of the model."""
    own = CollectorRegistry()
    own.register(state)
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY) + generate_latest(own)
    _forget_dead_workers(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    MultiProcessCollector(own)
    return generate_latest(own)


def _forget_dead_workers(folder: Path) -> None:
    """Remove the requests of workers that were killed from the sums."""
    for file in folder.glob("gauge_live*.db"):
        process = int(file.stem.rpartition("_")[2])
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            mark_process_dead(process)
