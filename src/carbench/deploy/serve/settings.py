"""Settings of the service; worker processes read them from an environment variable."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

VARIABLE = "CARBENCH_SERVE"


class Settings(BaseModel):
    """Settings of the service. Limits are per worker process unless stated otherwise.

    Attributes:
        model: the exported model folder.
        int8: serve the 8-bit model.
        log: the SQLite file in which predictions are recorded.
        keep_images: also store the image files in the log.
        keep_rows: number of newest predictions that the log keeps; 0 keeps all.
        keep_days: age in days at which predictions are deleted; 0 keeps all.
        threads: images that are decoded, and predicted, in parallel.
        max_in_progress: requests that are processed at the same time.
        max_wait: seconds that a further one waits for its turn before it gets 503.
        max_large_in_progress: of these, requests with images that take long to decode.
        max_receiving: requests whose body is still arriving.
        body_timeout: seconds within which a body has to arrive.
        max_body_bytes: size of a request body.
        max_buffered_bytes: total size of all bodies in memory.
        deadline: seconds from the last byte of the body to the response.
        max_pixels: pixels of one decoded image.
        max_decode_work: pixels to decode for one request, as estimated by
            :func:`carbench.deploy.serve.decode_worker.estimate_work`.
        decode_memory_bytes: memory of a decoding process, in addition to that of Python itself.
        max_batch_images: images in a batch request.
        header_timeout: seconds within which the headers of a request have to arrive.
        max_header_bytes: size of the headers of a request.
        max_connections: open connections; above this, the longest idle one is closed.
        allowed_hosts: accepted values of the ``Host`` header; "*" allows any.
        allowed_origins: other origins whose web pages may use the service.
        api_key_sha256: sha256 of the API key; None: no key is required.
        runtime_folder: folder that the workers share, for example for metrics; None: a single
            worker.
        monitor_window: number of newest images that are compared with the reference.
        alpha: maximum false-alarm rate per window.
        min_effect: effect size from which a difference is reported as drift.
        monitor_interval: seconds after which the comparison is repeated.
    """

    model_config = ConfigDict(frozen=True)

    model: Path
    int8: bool = False
    log: Path
    keep_images: bool = False
    keep_rows: int = 1_000_000
    keep_days: float = 0.0
    threads: int = 1
    max_in_progress: int = 32
    max_wait: float = 1.0
    max_large_in_progress: int = 4
    max_receiving: int = 256
    body_timeout: float = 20.0
    max_body_bytes: int = 20_000_000
    max_buffered_bytes: int = 240_000_000
    deadline: float = 10.0
    max_pixels: int = 40_000_000
    max_decode_work: int = 80_000_000
    decode_memory_bytes: int = 768_000_000
    max_batch_images: int = 64
    header_timeout: float = 20.0
    max_header_bytes: int = 65_536
    max_connections: int = 1000
    allowed_hosts: list[str] = ["*"]
    allowed_origins: list[str] = []
    api_key_sha256: str | None = None
    runtime_folder: Path | None = None
    monitor_window: int = 500
    alpha: float = 0.01
    min_effect: float = 0.0
    monitor_interval: float = 60.0

    def export_to_environment(self) -> None:
        """Store the settings in an environment variable, for child processes."""
        os.environ[VARIABLE] = self.model_dump_json()


def settings_from_environment() -> Settings:
    """Return the settings that :meth:`Settings.export_to_environment` stored."""
    return Settings.model_validate_json(os.environ[VARIABLE])
