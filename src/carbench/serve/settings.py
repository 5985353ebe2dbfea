"""What a person decides about the service; the worker processes have it from their environment."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

VARIABLE = "CARBENCH_SERVE"


class Settings(BaseModel):
    """The service's settings, with what is promised about memory and waiting.

    Attributes:
        model: the exported folder.
        int8: serve its 8-bit form.
        log: the file of predictions.
        keep_pictures: whether the log keeps the pictures, too.
        threads: pictures that a worker decodes and predicts at a time.
        waiting: requests that a worker takes in at a time; one more is told to come back.
        patience: seconds that a request waits for its turn.
        most_bytes: of a request.
        most_pixels: of a picture, decoded.
        most_pictures: of a batch.
        upload_seconds: that a request may take to arrive.
        window: predictions that monitoring looks at.
        alpha: how probable a false alarm of one window may be.
    """

    model_config = ConfigDict(frozen=True)

    model: Path
    int8: bool = False
    log: Path
    keep_pictures: bool = False
    threads: int = 1
    waiting: int = 32
    patience: float = 5.0
    most_bytes: int = 20_000_000
    most_pixels: int = 40_000_000
    most_pictures: int = 64
    upload_seconds: float = 20.0
    window: int = 500
    alpha: float = 0.01

    def hand_over(self) -> None:
        """Leave the settings to processes that are started from here."""
        os.environ[VARIABLE] = self.model_dump_json()


def handed_over() -> Settings:
    """Return the settings that :meth:`Settings.hand_over` left."""
    return Settings.model_validate_json(os.environ[VARIABLE])
