"""Prometheus metrics: requests, latencies and predictions of all workers, model and drift."""

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

from carbench.deploy.drift.two_sample_tests import DriftResult, TwoSampleResult

__all__ = ["CONTENT_TYPE_LATEST"]

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
CONFIDENCE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)

REQUESTS = Counter("carbench_requests_total", "Requests by route and status", ["route", "status"])
LATENCY = Histogram(
    "carbench_request_seconds", "Time to respond to a request", ["route"], buckets=LATENCY_BUCKETS
)
IN_PROGRESS = Gauge(
    "carbench_requests_in_work", "Requests in progress", multiprocess_mode="livesum"
)
RECEIVING = Gauge(
    "carbench_requests_receiving",
    "Requests whose body is still arriving",
    multiprocess_mode="livesum",
)
PREDICTIONS = Counter("carbench_predictions_total", "Predictions by class", ["class"])
CONFIDENCE = Histogram(
    "carbench_confidence",
    "Calibrated probability of the predicted class",
    buckets=CONFIDENCE_BUCKETS,
)
UNSURE = Counter("carbench_unsure_total", "Predictions below the confidence threshold")


class ModelCollector:
    """Gauges of the current model; those of a replaced model disappear.

    Args:
        version: version of the model.
        drift: its latest drift result, if any.
        age: age of the result in seconds.
    """

    def __init__(self, version: str, drift: DriftResult | None, age: float) -> None:
        self._version = version
        self._drift = drift
        self._age = age

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges (the interface of prometheus_client)."""
        model = GaugeMetricFamily(
            "carbench_model", "1 for the version that is served", labels=["version"]
        )
        model.add_metric([self._version], 1)
        yield model
        if self._drift is None:
            return
        columns: dict[str, tuple[str, Callable[[TwoSampleResult], float]]] = {
            "carbench_drift_alarm": (
                "1 if the test raises a drift alarm",
                lambda test: float(test.alarm),
            ),
            "carbench_drift_different": (
                "1 if the newest images differ significantly from the reference",
                lambda test: float(test.different),
            ),
            "carbench_drift_effect": (
                "Effect size of the test, 0 to 1",
                lambda test: test.effect,
            ),
            "carbench_drift_p_adjusted": (
                "p-value of the test, with Holm correction",
                lambda test: test.p_adjusted,
            ),
        }
        for name, (text, value) in columns.items():
            family = GaugeMetricFamily(name, text, labels=["family", "test"])
            for test in self._drift.tests:
                family.add_metric([test.family, test.name], value(test))
            yield family
        images = "Images in the latest drift window"
        yield GaugeMetricFamily("carbench_drift_images", images, len(self._drift.window))
        age = "Age of the latest drift result in seconds"
        yield GaugeMetricFamily("carbench_drift_age_seconds", age, self._age)


def exposition(state: ModelCollector) -> bytes:
    """Return all metrics in the Prometheus text format."""
    own = CollectorRegistry()
    own.register(state)
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY) + generate_latest(own)
    _remove_dead_workers(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    MultiProcessCollector(own)
    return generate_latest(own)


def _remove_dead_workers(folder: Path) -> None:
    """Remove the gauges of killed workers from the sums."""
    for file in folder.glob("gauge_live*.db"):
        process = int(file.stem.rpartition("_")[2])
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            mark_process_dead(process)
