"""The prediction service of a worker: decode, predict and record, within the deadline."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from carbench.deploy.bundle.loading import Bundle, load_bundle
from carbench.deploy.serve.decode_pool import DecodedImage, ImageDecoder
from carbench.deploy.serve.drift_monitor import DriftMonitor
from carbench.deploy.serve.inference import InferenceThreads, predict_images
from carbench.deploy.serve.prediction_log import PredictionLog, Record, failure_reason, log_errors
from carbench.deploy.serve.request_errors import BUSY_MESSAGE, TIMEOUT_MESSAGE, RejectedRequestError
from carbench.deploy.serve.settings import Settings
from carbench.models.onnx_runtime import onnxruntime

# Images per inference call. Between calls a request can be cancelled, and others proceed.
BATCH_SIZE = 8
# Seconds for which the result of a log check is reused.
LOG_CHECK_SECONDS = 2.0
# Minimum seconds between two messages about a log failure.
LOG_ERROR_INTERVAL = 60.0
log = logging.getLogger("carbench")


class PredictionService:
    """A model, its decoding processes and the prediction log.

    Raises:
        CarbenchError: the model or the log cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = Path(os.path.realpath(settings.model))
        self.bundle = load_bundle(self.folder, settings.int8)
        with log_errors(settings.log):
            self._log = PredictionLog(settings.log)
        self.monitor = DriftMonitor(self.bundle, settings, self._log.check)
        self._decoder = ImageDecoder(settings)
        self._threads: InferenceThreads | None = None
        self._in_progress = 0
        self._places = asyncio.Semaphore(settings.max_in_progress)
        self._log_failure: str | None = None
        self._log_checked = 0.0
        self._log_reported = 0.0

    @property
    def in_progress(self) -> int:
        """Number of requests in progress."""
        return self._in_progress

    async def start(self) -> None:
        """Start decoding processes and threads, and make an unrecorded first prediction.

        Raises:
            RejectedRequestError: the decoding processes do not work.
        """
        self._threads = InferenceThreads(self.settings.threads)
        await self._decoder.start()
        await self._warm_up(self.bundle)

    def close(self) -> None:
        """Stop all processes and threads."""
        self._decoder.close()
        if self._threads is not None:
            self._threads.close()
        self._log.close()

    async def replace(self, bundle: Bundle) -> None:
        """Switch to another model; requests in progress finish with the old one."""
        await self._warm_up(bundle)
        self.monitor = DriftMonitor(bundle, self.settings, self._log.check)
        self.bundle = bundle

    async def _warm_up(self, bundle: Bundle) -> None:
        size = bundle.model.size
        pixels = np.zeros((1, size, size, 3), np.uint8)
        if bundle.example is not None:
            deadline = time.monotonic() + 60
            pixels = (await self._decoder.decode(bundle.example, bundle.model, deadline)).pixels
            pixels = pixels[None]
        await asyncio.to_thread(bundle.classifier.predict, pixels)

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[float]:
        """Admit a request whose body has arrived; yield its deadline, in terms of time.monotonic.

        If too many requests are in progress, it waits a moment for one of them to finish: clients
        that repeat rejected requests at once would otherwise leave no time for the others.

        Raises:
            RejectedRequestError: too many requests are in progress, or the deadline has passed.
        """
        deadline = time.monotonic() + self.settings.deadline
        try:
            async with asyncio.timeout(min(self.settings.max_wait, self.settings.deadline)):
                await self._places.acquire()
        except TimeoutError:
            raise RejectedRequestError(503, BUSY_MESSAGE) from None
        self._in_progress += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                yield deadline
        except TimeoutError:
            raise RejectedRequestError(503, TIMEOUT_MESSAGE) from None
        finally:
            self._in_progress -= 1
            self._places.release()

    async def predict(self, content: bytes, deadline: float) -> dict[str, Any]:
        """Classify an image file and record the prediction.

        Raises:
            RejectedRequestError: the image cannot be classified, or nothing can be recorded.
        """
        bundle = self.bundle
        decoded = await self._decoder.decode(content, bundle.model, deadline)
        (response,) = await self._predict(bundle, [decoded])
        return response

    async def predict_batch(
        self, contents: list[bytes], deadline: float
    ) -> list[dict[str, Any] | RejectedRequestError]:
        """Classify image files; return a response or an error for each, in order.

        Raises:
            RejectedRequestError: the images together exceed the limits, or nothing can be recorded.
        """
        bundle = self.bundle
        decoded: list[DecodedImage | RejectedRequestError] = []
        async with self._decoder.reserve(contents, bundle.model, deadline):
            for content in contents:
                try:
                    decoded.append(
                        await self._decoder.decode(content, bundle.model, deadline, reserved=True)
                    )
                except RejectedRequestError as error:
                    if error.status == 503:
                        raise
                    decoded.append(error)
        images = [each for each in decoded if isinstance(each, DecodedImage)]
        responses = iter(await self._predict(bundle, images) if images else [])
        return [
            each if isinstance(each, RejectedRequestError) else next(responses) for each in decoded
        ]

    async def _predict(self, bundle: Bundle, decoded: list[DecodedImage]) -> list[dict[str, Any]]:
        """Return responses and record them; if cancelled, nothing is recorded."""
        assert self._threads is not None
        records: list[Record] = []
        responses: list[dict[str, Any]] = []
        for start in range(0, len(decoded), BATCH_SIZE):
            last = start + BATCH_SIZE >= len(decoded)

            def work(
                options: onnxruntime.RunOptions, start: int = start, last: bool = last
            ) -> None:
                chunk = decoded[start : start + BATCH_SIZE]
                for record, response in predict_images(bundle, chunk, self.settings, options):
                    records.append(record)
                    responses.append(response)
                if last and not options.terminate:
                    self._record(records)

            await self._threads.run(work)
        return responses

    def _record(self, records: list[Record]) -> None:
        """Write records to the log."""
        try:
            self._log.append(records)
        except Exception as error:
            self._set_log_status(error)
            raise RejectedRequestError(
                503,
                f"The prediction could not be recorded and is therefore withheld: "
                f"{failure_reason(error)}.",
            ) from None
        self._set_log_status(None)

    async def log_failure(self) -> str | None:
        """Return why predictions cannot be recorded; None if they can. Checked by writing."""
        if time.monotonic() - self._log_checked > LOG_CHECK_SECONDS:
            await asyncio.to_thread(self._check_log)
        return self._log_failure

    def _check_log(self) -> None:
        try:
            self._log.check()
        except Exception as error:
            self._set_log_status(error)
        else:
            self._set_log_status(None)

    def _set_log_status(self, error: Exception | None) -> None:
        self._log_checked = time.monotonic()
        self._log_failure = None if error is None else failure_reason(error)
        if error is not None and time.monotonic() - self._log_reported > LOG_ERROR_INTERVAL:
            self._log_reported = time.monotonic()
            log.error(
                "%s: found that predictions cannot be recorded (%s); expected a writable log. Fix: "
                "free disk space or repair the file; the service then continues by itself",
                *(self.settings.log, failure_reason(error)),
            )
