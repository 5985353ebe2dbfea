"""The service's settings; worker processes read them from their environment."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

VARIABLE = "CARBENCH_SERVE"


class Settings(BaseModel):
    """The service's settings. Limits are per worker process unless stated otherwise.

    Attributes:
        model: the exported folder.
        int8: serve its 8-bit model.
        log: the SQLite file of predictions.
        keep_images: store the image files in the log, too.
        retain_rows: newest predictions that the log keeps; 0 keeps all.
        retain_days: age in days at which predictions are deleted; 0 keeps all.
        threads: images that are decoded, and predicted, in parallel.
        waiting: requests in work; one more is answered with 503.
        large_waiting: of these, requests with images that take long to decode.
        receiving: requests whose body has not arrived yet.
        upload_seconds: time for a body to arrive.
        most_bytes: size of a body.
        most_buffered: bytes of all bodies that are held in memory.
        deadline: seconds from the last byte of the body to the answer.
        most_pixels: pixels of one decoded image.
        most_work: pixels to decode for one request (:func:`carbench.deploy.serve.decoder.work_of`).
        decode_memory: bytes of memory of a decoding process, beyond those of Python.
        most_images: images in a batch.
        header_seconds: time for the headers of a request to arrive.
        header_bytes: size of the headers of a request.
        connections: open connections; beyond them the one that is idle for longest is closed.
        hosts: names that the ``Host`` header may have; "*" allows any.
        origins: origins of other web pages that may use the service.
        key_sha256: sha256 of the API key; None: no key is needed.
        runtime: folder that the workers share, such as for metrics; None: a single worker.
        window: predictions that monitoring compares with the reference.
        alpha: false-alarm rate of a window, at most.
        min_effect: effect size from which a difference is reported as drift.
        monitor_seconds: age at which a comparison is repeated.
    """

    model_config = ConfigDict(frozen=True)

    model: Path
    int8: bool = False
    log: Path
    keep_images: bool = False
    retain_rows: int = 1_000_000
    retain_days: float = 0.0
    threads: int = 1
    waiting: int = 32
    large_waiting: int = 4
    receiving: int = 256
    upload_seconds: float = 20.0
    most_bytes: int = 20_000_000
    most_buffered: int = 240_000_000
    deadline: float = 10.0
    most_pixels: int = 40_000_000
    most_work: int = 80_000_000
    decode_memory: int = 768_000_000
    most_images: int = 64
    header_seconds: float = 20.0
    header_bytes: int = 65_536
    connections: int = 1000
    hosts: list[str] = ["*"]
    origins: list[str] = []
    key_sha256: str | None = None
    runtime: Path | None = None
    window: int = 500
    alpha: float = 0.01
    min_effect: float = 0.0
    monitor_seconds: float = 60.0

    def hand_over(self) -> None:
        """Store the settings in the environment, for processes that are started from here."""
        os.environ[VARIABLE] = self.model_dump_json()


def handed_over() -> Settings:
    """Return the settings that :meth:`Settings.hand_over` stored."""
    return Settings.model_validate_json(os.environ[VARIABLE])
