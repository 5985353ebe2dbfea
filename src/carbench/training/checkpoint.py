"""The checkpoint from which a killed training resumes; it is complete, or it is ignored."""

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

# Saves lie at least so many times their own duration apart: however large the model and slow the
# disk, all but the first and the last take less than a twentieth of the time, and a kill loses no
# more than an epoch or twenty times a save, whichever is longer, and the epoch it falls into.
SPACING = 20.0
DIGEST_BYTES = hashlib.sha256().digest_size


class Checkpoint:
    """One training's state on disk, replaced as epochs end.

    Args:
        path: the file; None saves nothing.
        made_from: plain values; a checkpoint that was made from others is ignored.
    """

    def __init__(self, path: Path | None, made_from: dict[str, Any]) -> None:
        self._path = path
        self._made_from = made_from
        self._started = time.perf_counter()
        self._saved = -math.inf
        self._cost = 0.0
        self.resumed_after: list[int] = []
        """The epochs that killed runs of this training came to, as far as they were saved."""
        self.seconds_before = 0.0
        """How long those runs had trained when they saved what this one goes on from."""

    def load(self) -> dict[str, Any] | None:
        """Return what was saved, tensors on the CPU; None if there is nothing to go on from."""
        if self._path is None or not self._path.exists():
            return None
        try:
            document = _read(self._path)
        except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            log.warning("%s is ignored, training starts again: %.200s", self._path, reason)
            return None
        if document["made_from"] != self._made_from:
            log.warning("%s is ignored, training starts again: of another training", self._path)
            return None
        self.resumed_after = [*document["resumed_after"], document["epoch"]]
        self.seconds_before = document["seconds"]
        state: dict[str, Any] = document["state"]
        return state

    def save(self, epoch: int, state: dict[str, Any], always: bool = False) -> None:
        """Replace the checkpoint by the state after ``epoch``, unless the last save was just now.

        A run's first save is never left out, so that every run gets further than the one before.

        Args:
            epoch: how many epochs are done.
            state: tensors on any device and plain values, in dictionaries and lists.
            always: do not look at the last save.
        """
        begun = time.perf_counter()
        if self._path is None or (not always and begun - self._saved < SPACING * self._cost):
            return
        document = {
            "made_from": self._made_from,
            "resumed_after": self.resumed_after,
            "epoch": epoch,
            "seconds": self.seconds_before + begun - self._started,
            "state": state,
        }
        try:
            _write(self._path, document)
        except OSError as error:  # A full disk should not end what it is no part of.
            log.warning("no checkpoint after epoch %d: %s", epoch, error.strerror or error)
        self._saved = time.perf_counter()
        self._cost = self._saved - begun


def _write(path: Path, document: dict[str, Any]) -> None:
    """Write a digest and the document, in a draft that then takes the place of ``path``."""
    content = io.BytesIO()
    torch.save(document, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    try:
        with draft.open("wb") as file:
            file.write(hashlib.sha256(content.getbuffer()).digest())
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())  # or the name could outlive the content when the power fails
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[str, Any]:
    # torch checks no sums of its own: a changed byte would be a changed weight.
    with path.open("rb") as file:
        digest = file.read(DIGEST_BYTES)
        content = file.read()
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("damaged")
    document: dict[str, Any] = torch.load(
        io.BytesIO(content), map_location="cpu", weights_only=True
    )
    return document
