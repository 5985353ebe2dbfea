"""The curve of a training run while it runs: each epoch, as it happens, in a file outside results/.

People and trackers follow a run with it. It is not a result: no stage reads it, and a write that
fails does not stop the training. The file has a line of JSON per epoch: the columns of history.csv,
and the other attributes of :class:`LiveEpoch`. It is replaced as a whole, so that a reader always
finds complete lines.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from carbench.core.atomic import write_atomic

log = logging.getLogger("carbench")


@dataclass(frozen=True)
class LiveEpoch:
    """An epoch of a live curve.

    Attributes:
        epoch: its number, from 1 on.
        epochs: the number of epochs of the recipe, which may stop early.
        time: when it ended, in seconds since 1970.
        seconds: how long it took; 0 if unknown.
        metrics: the learning rate, the losses and the accuracy, named as in history.csv.
    """

    epoch: int
    epochs: int
    time: float
    seconds: float
    metrics: Mapping[str, float]


class LiveCurve:
    """The file of a training run that starts, or resumes after the epochs in ``history``.

    Epochs after those, which a killed run had added since its last checkpoint, are removed.

    Args:
        path: the file; None: nothing is written.
        epochs: the number of epochs of the recipe.
        history: the rows of history.csv up to now.
    """

    def __init__(
        self, path: Path | None, epochs: int, history: Sequence[Mapping[str, float]]
    ) -> None:
        self._path = path
        self._epochs = epochs
        self._ended = time.time()
        earlier = {each.epoch: each for each in read_live_curve(path)} if path else {}
        self._lines = []
        for row in history:
            known = earlier.get(int(row["epoch"]))
            ended, seconds = (known.time, known.seconds) if known else (self._ended, 0.0)
            self._lines.append(self._line(row, ended, seconds))
        self._write()

    def append(self, row: Mapping[str, float]) -> None:
        """Add an epoch that has just ended, a row of history.csv."""
        now = time.time()
        self._lines.append(self._line(row, now, max(0.0, now - self._ended)))
        self._ended = now
        self._write()

    def _line(self, row: Mapping[str, float], ended: float, seconds: float) -> str:
        times = {"epochs": self._epochs, "time": round(ended, 3), "seconds": round(seconds, 3)}
        return json.dumps({**row, **times}) + "\n"

    def _write(self) -> None:
        if self._path is None:
            return
        try:
            write_atomic(self._path, "".join(self._lines))
        except OSError as error:
            log.warning("%s is not up to date: %s", self._path, error.strerror or error)


def read_live_curve(path: Path) -> list[LiveEpoch]:
    """Return the epochs in a file; none if it is missing or damaged."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [
            LiveEpoch(
                int(row.pop("epoch")),
                int(row.pop("epochs")),
                float(row.pop("time")),
                float(row.pop("seconds")),
                {name: float(value) for name, value in row.items()},
            )
            for row in rows
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []
