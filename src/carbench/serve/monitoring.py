"""Whether the pictures that come in are still those that the model knows."""

from __future__ import annotations

import threading
import time

from carbench.deployed.folder import Deployed
from carbench.deployed.observations import read_observations
from carbench.drift.testing import Drift, compare
from carbench.serve import metrics
from carbench.serve.log import read_window
from carbench.serve.settings import Settings

# Seconds for which a comparison is not made again.
FRESH = 60.0
SEED = 0


class Monitor:
    """Holds the newest predictions against the reference, at most once a minute."""

    def __init__(self, model: Deployed, settings: Settings) -> None:
        self._model = model
        self._settings = settings
        self._reference = read_observations(model.reference)
        self._lock = threading.Lock()
        self._made = -FRESH
        self._drift: Drift | None = None

    def look(self) -> Drift:
        """Return the comparison; its gauges are set for Prometheus."""
        with self._lock:
            if self._drift is None or time.monotonic() - self._made >= FRESH:
                self._drift = self._compare()
                self._made = time.monotonic()
            return self._drift

    def _compare(self) -> Drift:
        settings = self._settings
        window = read_window(settings.log, self._model.version, settings.window, None)
        drift = compare(self._reference, window, self._model.classes, settings.alpha, SEED)
        metrics.DRIFT_PICTURES.set(len(window))
        for test in drift.tests:
            metrics.DRIFT.labels(test.family, test.name).set(test.alarm)
            metrics.DRIFT_P.labels(test.family, test.name).set(test.p_adjusted)
        return drift
