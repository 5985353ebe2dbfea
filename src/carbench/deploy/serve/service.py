"""From image files to recorded answers: what a worker does with a request, within its deadline."""

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
import onnxruntime

from carbench.deploy.bundle.loading import Bundle, load_bundle
from carbench.deploy.serve.decoding import Decoders, Shrunk
from carbench.deploy.serve.inference import Threads, predict
from carbench.deploy.serve.log import PredictionLog, Record, explained, reason
from carbench.deploy.serve.monitoring import Monitor
from carbench.deploy.serve.refusals import BUSY, LATE, RefusedError
from carbench.deploy.serve.settings import Settings

# Images that are predicted at a time: between them a request can be stopped, and others have their
# turn.
CHUNK = 8
# Seconds for which the result of a check of the log holds.
CHECKED = 2.0
# Seconds between sentences about the log in the service's own output.
QUIET = 60.0
log = logging.getLogger("carbench")


class Service:
    """A model, its decoders and the log of what it predicted.

    Raises:
        CarbenchError: the model or the log cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = Path(os.path.realpath(settings.model))
        self.bundle = load_bundle(self.folder, settings.int8)
        with explained(settings.log):
            self._log = PredictionLog(settings.log)
        self.monitor = Monitor(self.bundle, settings, self._log.check)
        self._decoders = Decoders(settings)
        self._threads: Threads | None = None
        self._in_work = 0
        self._log_failure: str | None = None
        self._log_checked = 0.0
        self._log_told = 0.0

    @property
    def in_work(self) -> int:
        """Requests that are being answered."""
        return self._in_work

    async def start(self) -> None:
        """Start decoding processes and threads, and answer once without recording it.

        Raises:
            RefusedError: the decoding processes do not work.
        """
        self._threads = Threads(self.settings.threads)
        await self._decoders.start()
        await self._warm_up(self.bundle)

    def close(self) -> None:
        """End processes and threads, whatever they are doing."""
        self._decoders.close()
        if self._threads is not None:
            self._threads.close()
        self._log.close()

    async def replace(self, bundle: Bundle) -> None:
        """Serve another model from now on; requests that have begun end with the old one."""
        await self._warm_up(bundle)
        self.monitor = Monitor(bundle, self.settings, self._log.check)
        self.bundle = bundle

    async def _warm_up(self, bundle: Bundle) -> None:
        size = bundle.model.size
        pixels = np.zeros((1, size, size, 3), np.uint8)
        if bundle.example is not None:
            deadline = time.monotonic() + 60
            pixels = (await self._decoders.shrink(bundle.example, bundle.model, deadline)).pixels
            pixels = pixels[None]
        await asyncio.to_thread(bundle.classifier.predict, pixels)

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[float]:
        """Let a request in whose body has arrived; yield its deadline, of time.monotonic.

        Raises:
            RefusedError: too many others are in work, or the deadline has passed.
        """
        if self._in_work >= self.settings.waiting:
            raise RefusedError(503, BUSY)
        self._in_work += 1
        try:
            async with asyncio.timeout(self.settings.deadline):
                yield time.monotonic() + self.settings.deadline
        except TimeoutError:
            raise RefusedError(503, LATE) from None
        finally:
            self._in_work -= 1

    async def answer(self, content: bytes, deadline: float) -> dict[str, Any]:
        """Return the answer for an image file, recorded.

        Raises:
            RefusedError: there is none.
        """
        bundle = self.bundle
        shrunk = await self._decoders.shrink(content, bundle.model, deadline)
        (answer,) = await self._predict(bundle, [shrunk])
        return answer

    async def answer_all(
        self, contents: list[bytes], deadline: float
    ) -> list[dict[str, Any] | RefusedError]:
        """Return an answer for each image file, or why there is none, in their order.

        Raises:
            RefusedError: together they are too much, or nothing can be recorded.
        """
        bundle = self.bundle
        shrunk: list[Shrunk | RefusedError] = []
        async with self._decoders.admit(contents, bundle.model, deadline):
            for content in contents:
                try:
                    shrunk.append(
                        await self._decoders.shrink(content, bundle.model, deadline, admitted=True)
                    )
                except RefusedError as refused:
                    if refused.status == 503:
                        raise
                    shrunk.append(refused)
        whole = [each for each in shrunk if isinstance(each, Shrunk)]
        answers = iter(await self._predict(bundle, whole) if whole else [])
        return [each if isinstance(each, RefusedError) else next(answers) for each in shrunk]

    async def _predict(self, bundle: Bundle, shrunk: list[Shrunk]) -> list[dict[str, Any]]:
        """Return answers, all of them recorded; if cancelled, none is."""
        assert self._threads is not None
        records: list[Record] = []
        answers: list[dict[str, Any]] = []
        for start in range(0, len(shrunk), CHUNK):
            last = start + CHUNK >= len(shrunk)

            def work(
                options: onnxruntime.RunOptions, start: int = start, last: bool = last
            ) -> None:
                chunk = shrunk[start : start + CHUNK]
                for record, answer in predict(bundle, chunk, self.settings, options):
                    records.append(record)
                    answers.append(answer)
                if last and not options.terminate:
                    self._record(records)

            await self._threads.run(work)
        return answers

    def _record(self, records: list[Record]) -> None:
        """Write records to the log."""
        try:
            self._log.append(records)
        except Exception as error:
            self._note_log(error)
            raise RefusedError(
                503,
                f"The prediction could not be recorded, and is therefore not given: "
                f"{reason(error)}.",
            ) from None
        self._note_log(None)

    async def log_failure(self) -> str | None:
        """Return why predictions cannot be recorded now; None: they can. Checked by writing."""
        if time.monotonic() - self._log_checked > CHECKED:
            await asyncio.to_thread(self._check_log)
        return self._log_failure

    def _check_log(self) -> None:
        try:
            self._log.check()
        except Exception as error:
            self._note_log(error)
        else:
            self._note_log(None)

    def _note_log(self, error: Exception | None) -> None:
        self._log_checked = time.monotonic()
        self._log_failure = None if error is None else reason(error)
        if error is not None and time.monotonic() - self._log_told > QUIET:
            self._log_told = time.monotonic()
            log.error(
                "%s: found that predictions cannot be recorded (%s). Fix: free space or repair the "
                "file; the service goes on by itself",
                *(self.settings.log, reason(error)),
            )
