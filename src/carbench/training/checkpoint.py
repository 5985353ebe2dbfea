"""Checkpoints of training runs, written atomically and verified by checksum."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
import pickle
import time
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger("carbench")

# Minimum interval between saves, in multiples of the duration of a save: whatever the size of the
# model and the speed of the disk, all saves but the first and the last take less than a twentieth
# of the time. A killed run loses at most the current epoch, and one epoch or 20 times the duration
# of a save, whichever is longer.
MIN_SAVE_INTERVAL = 20.0
DIGEST_BYTES = hashlib.sha256().digest_size


class Checkpoint:
    """The state of a training run on disk, replaced at the end of epochs.

    Args:
        path: the file; None: no checkpoints.
        fingerprint: plain values that identify the run; checkpoints of other runs are ignored.
    """

    def __init__(self, path: Path | None, fingerprint: dict[str, Any]) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self._started = time.perf_counter()
        self._saved = -math.inf
        self._cost = 0.0
        self.resumed_after: list[int] = []
        """The last saved epoch of each earlier, killed run."""
        self.seconds_before = 0.0
        """Training time of those runs up to the checkpoint."""

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, with tensors on the CPU; None if there is no valid checkpoint."""
        if self._path is None or not self._path.exists():
            return None
        try:
            document = _read(self._path)
        except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            log.warning("%s is ignored, training starts again: %.200s", self._path, reason)
            return None
        if document.get("fingerprint") != self._fingerprint:
            log.warning(
                "%s is ignored, training starts again: it belongs to another run", self._path
            )
            return None
        self.resumed_after = [*document["resumed_after"], document["epoch"]]
        self.seconds_before = document["seconds"]
        state: dict[str, Any] = document["state"]
        return state

    def save(self, epoch: int, state: dict[str, Any], always: bool = False) -> None:
        """Save the state after ``epoch``, unless the last save was too recent.

        The first save of a run is never skipped, so that each run makes progress.

        Args:
            epoch: number of completed epochs.
            state: tensors on any device and plain values, in dictionaries and lists.
            always: save even if the last save was recent.
        """
        begun = time.perf_counter()
        if self._path is None or (
            not always and begun - self._saved < MIN_SAVE_INTERVAL * self._cost
        ):
            return
        document = {
            "fingerprint": self._fingerprint,
            "resumed_after": self.resumed_after,
            "epoch": epoch,
            "seconds": self.seconds_before + begun - self._started,
            "state": state,
        }
        try:
            _write(self._path, document)
        except OSError as error:  # a full disk should not end the training run
            log.warning("no checkpoint after epoch %d: %s", epoch, error.strerror or error)
        self._saved = time.perf_counter()
        self._cost = self._saved - begun


def _write(path: Path, document: dict[str, Any]) -> None:
    """Write a checksum and the document to a temporary file, then move it to ``path``."""
    content = io.BytesIO()
    torch.save(document, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    try:
        with draft.open("wb") as file:
            file.write(hashlib.sha256(content.getbuffer()).digest())
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())  # before the rename, in case of a power failure
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[str, Any]:
    # torch.load has no checksum: a changed byte would be a changed weight.
    with path.open("rb") as file:
        digest = file.read(DIGEST_BYTES)
        content = file.read()
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("damaged")
    document: dict[str, Any] = torch.load(
        io.BytesIO(content), map_location="cpu", weights_only=True
    )
    return document
