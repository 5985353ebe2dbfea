"""Periodic drift detection, once for all workers."""

from __future__ import annotations

import fcntl
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from carbench.core.atomic import write_atomic
from carbench.deploy.bundle.loading import Bundle
from carbench.deploy.drift.two_sample_tests import DriftResult, detect_drift
from carbench.deploy.serve.prediction_log import log_errors
from carbench.deploy.serve.recent_predictions import read_recent_predictions
from carbench.deploy.serve.settings import Settings

SEED = 0


class DriftMonitor:
    """The latest drift result of a model.

    The workers share it through a file in the runtime folder, which only they can access.

    Args:
        bundle: the model.
        settings: window size and thresholds.
        before_read: called before the log is read.
    """

    def __init__(self, bundle: Bundle, settings: Settings, before_read: Callable[[], None]) -> None:
        self._before_read = before_read
        self._bundle = bundle
        self._settings = settings
        self._lock = threading.Lock()
        self._computed_at = 0.0
        self._drift: DriftResult | None = None

    def latest(self) -> tuple[DriftResult | None, float]:
        """Return the latest result, if any, and its age in seconds, without blocking."""
        file = self._file
        if file is not None:
            with suppress(OSError):
                changed = file.stat().st_mtime
                if changed > self._computed_at:
                    self._drift, self._computed_at = pickle.loads(file.read_bytes()), changed
        return self._drift, max(time.time() - self._computed_at, 0.0)

    def refresh(self) -> DriftResult:
        """Return a current result; compute it unless another worker has done so.

        Raises:
            CarbenchError: the log cannot be read.
        """
        with self._lock, self._exclusive():
            drift, age = self.latest()
            if drift is None or age >= self._settings.monitor_interval:
                drift = self._detect()
                self._drift, self._computed_at = drift, time.time()
                if self._file is not None:
                    write_atomic(self._file, pickle.dumps(drift))
            return drift

    def _detect(self) -> DriftResult:
        model, settings = self._bundle.model, self._settings
        with log_errors(settings.log):
            self._before_read()
        window = read_recent_predictions(settings.log, model.version, settings.monitor_window, None)
        return detect_drift(
            self._bundle.reference, window, model.classes, settings.alpha, SEED, settings.min_effect
        )

    @property
    def _file(self) -> Path | None:
        runtime = self._settings.runtime_folder
        name = self._bundle.model.metadata.sha256["model.onnx"]
        return runtime / f"drift-{name}" if runtime is not None else None

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold a lock that the workers share."""
        if self._settings.runtime_folder is None:
            yield
            return
        with (self._settings.runtime_folder / "drift.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
