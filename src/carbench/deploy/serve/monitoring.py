"""Comparing the newest predictions with the reference, once for all workers."""

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
from carbench.deploy.drift.testing import Drift, compare
from carbench.deploy.serve.log import explained
from carbench.deploy.serve.log_window import read_window
from carbench.deploy.serve.settings import Settings

SEED = 0


class Monitor:
    """The latest comparison of a model's predictions with its reference.

    Workers share it through a file in the runtime folder, which is theirs alone.

    Args:
        bundle: the model.
        settings: the window, and what is drift.
        prepare: called before the log is read.
    """

    def __init__(self, bundle: Bundle, settings: Settings, prepare: Callable[[], None]) -> None:
        self._prepare = prepare
        self._bundle = bundle
        self._settings = settings
        self._lock = threading.Lock()
        self._made = 0.0
        self._drift: Drift | None = None

    def latest(self) -> tuple[Drift | None, float]:
        """Return the latest comparison, if there was one, and its age in seconds; at once."""
        file = self._file
        if file is not None:
            with suppress(OSError):
                changed = file.stat().st_mtime
                if changed > self._made:
                    self._drift, self._made = pickle.loads(file.read_bytes()), changed
        return self._drift, max(time.time() - self._made, 0.0)

    def look(self) -> Drift:
        """Return a comparison that is not old; make it, if no other worker does.

        Raises:
            CarbenchError: the log cannot be read.
        """
        with self._lock, self._alone():
            drift, age = self.latest()
            if drift is None or age >= self._settings.monitor_seconds:
                drift = self._compare()
                self._drift, self._made = drift, time.time()
                if self._file is not None:
                    write_atomic(self._file, pickle.dumps(drift))
            return drift

    def _compare(self) -> Drift:
        model, settings = self._bundle.model, self._settings
        with explained(settings.log):
            self._prepare()
        window = read_window(settings.log, model.version, settings.window, None)
        return compare(
            self._bundle.reference, window, model.classes, settings.alpha, SEED, settings.min_effect
        )

    @property
    def _file(self) -> Path | None:
        runtime = self._settings.runtime
        name = self._bundle.model.about.sha256["model.onnx"]
        return runtime / f"drift-{name}" if runtime is not None else None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold a lock among the workers."""
        if self._settings.runtime is None:
            yield
            return
        with (self._settings.runtime / "drift.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
