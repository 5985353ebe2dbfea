"""Pools of decoding processes (:mod:`carbench.deploy.serve.decode_worker`).

There are two pools: one decodes ordinary images at normal priority; the other is a single
low-priority process for large images. Large images therefore wait for each other and hardly delay
ordinary ones.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carbench.data.images.formats import FORMATS
from carbench.deploy.bundle.exported_model import ExportedModel
from carbench.deploy.serve.decode_worker import encode_message
from carbench.deploy.serve.request_errors import BUSY_MESSAGE, TIMEOUT_MESSAGE, RejectedRequestError
from carbench.deploy.serve.settings import Settings

# Up to this much work (in pixels) an image is ordinary: 0.1 to 0.3 s of one core.
ORDINARY_WORK = 5_000_000
# CPU time after which an image that was expected to be ordinary is treated as large.
ORDINARY_CPU_SECONDS = 0.7
NICE = 10
# Seconds for which a cancelled job may continue: starting a new process takes as long.
CANCEL_GRACE_SECONDS = 0.5


@dataclass(frozen=True)
class DecodedImage:
    """An image, decoded and resized for the model.

    Attributes:
        content: the image file.
        pixels: (S, S, 3) uint8.
        facts: format, width, height and whether the file is animated, as stored.
        milliseconds: time for decoding and resizing.
    """

    content: bytes
    pixels: NDArray[np.uint8]
    facts: dict[str, Any]
    milliseconds: float


class DecoderExitError(Exception):
    """The process exited during a job; the argument is the signal or the negated exit status."""


class DecoderProcess:
    """One decoding process; it is started for the first job and restarted if it has exited."""

    def __init__(self, memory: int, nice: int) -> None:
        self._arguments = [str(memory), str(nice)]
        self._process: subprocess.Popen[bytes] | None = None

    async def run(self, job: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        """Run a job and return the reply.

        Raises:
            DecoderExitError: the process exited without a reply.
        """
        if self._process is None:
            await self.start()
        process = self._process
        assert process is not None
        try:
            self._writer.write(encode_message(job, content))
            await self._writer.drain()
            reply = json.loads(await self._reader.readline())
            return reply, await self._reader.readexactly(reply["bytes"])
        except (OSError, EOFError, ValueError):
            self.kill()
            raise DecoderExitError(-process.wait()) from None

    async def start(self) -> None:
        """Start the process."""
        own, other = socket.socketpair()
        with other:
            number = str(other.fileno())
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "carbench.deploy.serve.decode_worker",
                    number,
                    *self._arguments,
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
            )
        self._reader, self._writer = await asyncio.open_connection(sock=own)

    def kill(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._writer.close()
            self._process = None


class DecoderPool:
    """A pool of decoding processes that run jobs in order of arrival."""

    def __init__(self, count: int, memory: int, nice: int) -> None:
        self.decoders = [DecoderProcess(memory, nice) for _ in range(count)]
        self._idle: asyncio.Queue[DecoderProcess] = asyncio.Queue()
        for decoder in self.decoders:
            self._idle.put_nowait(decoder)
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, job: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        """Run a job on the next free process; if cancelled, the job is stopped soon afterwards.

        Raises:
            DecoderExitError: the process exited during the job.
        """
        decoder = await self._idle.get()
        task = asyncio.create_task(decoder.run(job, content))
        try:
            reply = await asyncio.shield(task)
        except asyncio.CancelledError:
            ending = asyncio.create_task(self._finish(decoder, task))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            raise
        except BaseException:
            self._idle.put_nowait(decoder)
            raise
        self._idle.put_nowait(decoder)
        return reply

    async def _finish(self, decoder: DecoderProcess, task: asyncio.Task[Any]) -> None:
        """Wait briefly for a cancelled job, then kill its process."""
        try:
            await asyncio.wait([task], timeout=CANCEL_GRACE_SECONDS)
            if not task.done():
                decoder.kill()
            await asyncio.gather(task, return_exceptions=True)
        finally:
            self._idle.put_nowait(decoder)

    def close(self) -> None:
        """End all processes."""
        for decoder in self.decoders:
            decoder.kill()


class ImageDecoder:
    """Decodes images in the decoding processes of a worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # One more than the threads, so that a single slow image does not block the others.
        self._ordinary = DecoderPool(settings.threads + 1, settings.decode_memory_bytes, 0)
        self._large = DecoderPool(1, settings.decode_memory_bytes, NICE)
        self._large_slots = settings.max_large_in_progress

    async def start(self) -> None:
        """Start the processes for ordinary images."""
        await asyncio.gather(*(each.start() for each in self._ordinary.decoders))

    def close(self) -> None:
        """End all processes."""
        self._ordinary.close()
        self._large.close()

    @asynccontextmanager
    async def reserve(
        self, contents: list[bytes], model: ExportedModel, deadline: float
    ) -> AsyncIterator[None]:
        """Reserve capacity for a batch of images, from the work that their headers announce.

        Args:
            contents: the image files.
            model: the model that the images are decoded for.
            deadline: in terms of :func:`time.monotonic`.

        Raises:
            RejectedRequestError: the images are too much work, or too many requests with large
                images are in progress.
        """
        probed = [await self._probe(content, model, deadline) for content in contents]
        works = [work for work in probed if work <= self._settings.max_decode_work]
        if sum(works) > self._settings.max_decode_work:
            raise self._work_error("images", sum(works))
        if max(works, default=0) <= ORDINARY_WORK:
            yield
            return
        with self._reserve_slot():
            yield

    async def _probe(self, content: bytes, model: ExportedModel, deadline: float) -> float:
        job = {"probe": True, "size": model.size, "seconds": _seconds_left(deadline)}
        job["cpu_seconds"] = ORDINARY_CPU_SECONDS
        try:
            reply, _ = await self._ordinary.run(job, content)
        except DecoderExitError:
            return 0.0  # decoding will fail in the same way and report it
        return float(reply.get("work", 0.0))

    async def decode(
        self, content: bytes, model: ExportedModel, deadline: float, reserved: bool = False
    ) -> DecodedImage:
        """Decode an image and resize it for a model.

        Args:
            content: the image file.
            model: the model that the image is decoded for.
            deadline: in terms of :func:`time.monotonic`.
            reserved: whether :meth:`reserve` has reserved capacity for the request.

        Raises:
            RejectedRequestError: the image cannot be decoded; the message states the reason.
        """
        job: dict[str, Any] = {
            "size": model.size,
            "fit": model.fit,
            "most_pixels": self._settings.max_pixels,
            "max_decode_work": ORDINARY_WORK,
            "seconds": _seconds_left(deadline),
            "cpu_seconds": ORDINARY_CPU_SECONDS,
        }
        try:
            reply, pixels = await self._ordinary.run(job, content)
        except DecoderExitError as error:
            if error.args[0] != signal.SIGPROF:
                raise _exit_error(error) from None
            reply, pixels = {"outcome": "work", "work": ORDINARY_WORK}, b""
        if reply["outcome"] == "work":
            if reply["work"] > self._settings.max_decode_work:
                raise self._work_error("image", reply["work"])
            job |= {"max_decode_work": self._settings.max_decode_work, "cpu_seconds": None}
            if reserved:
                reply, pixels = await self._run_large(job, content, deadline)
            else:
                with self._reserve_slot():
                    reply, pixels = await self._run_large(job, content, deadline)
        if reply["outcome"] != "done":
            raise self._error_for(reply)
        side = model.size
        array = np.frombuffer(pixels, np.uint8).reshape(side, side, 3)
        return DecodedImage(content, array, reply["facts"], round(1000 * reply["seconds"], 3))

    async def _run_large(
        self, job: dict[str, Any], content: bytes, deadline: float
    ) -> tuple[dict[str, Any], bytes]:
        try:
            return await self._large.run(job | {"seconds": _seconds_left(deadline)}, content)
        except DecoderExitError as error:
            raise _exit_error(error) from None

    @contextmanager
    def _reserve_slot(self) -> Iterator[None]:
        """Occupy one of the slots for requests with large images."""
        if self._large_slots == 0:
            raise RejectedRequestError(503, BUSY_MESSAGE)
        self._large_slots -= 1
        try:
            yield
        finally:
            self._large_slots += 1

    def _work_error(self, what: str, work: float) -> RejectedRequestError:
        limit = self._settings.max_decode_work / 1e6
        return RejectedRequestError(
            413,
            f"The {what} would take too much work to decode: as much as {work / 1e6:.0f} million "
            f"pixels; the limit is {limit:g} million per request.",
        )

    def _error_for(self, reply: dict[str, Any]) -> RejectedRequestError:
        match reply["outcome"]:
            case "unknown format":
                formats = ", ".join(FORMATS)
                return RejectedRequestError(
                    415, f"The file is {reply['reason']}. Supported formats: {formats}."
                )
            case "too many pixels":
                limit = self._settings.max_pixels / 1e6
                return RejectedRequestError(
                    413, f"The image has too many pixels; the limit is {limit:g} million."
                )
            case "memory":
                limit = self._settings.decode_memory_bytes / 1e6
                return RejectedRequestError(
                    413, f"The image takes more than {limit:g} MB of memory to decode."
                )
            case _:
                return RejectedRequestError(422, f"The image cannot be decoded: {reply['reason']}.")


def _seconds_left(deadline: float) -> float:
    """Return the seconds to a deadline, at least a hundredth."""
    return max(deadline - time.monotonic(), 0.01)


def _exit_error(error: DecoderExitError) -> RejectedRequestError:
    if error.args[0] == signal.SIGALRM:
        return RejectedRequestError(503, TIMEOUT_MESSAGE)
    if error.args[0] < 0:  # not killed by a signal
        return RejectedRequestError(
            503,
            "The decoding process exited unexpectedly; the output of the service has the reason.",
        )
    return RejectedRequestError(422, "The image cannot be decoded: its decoder crashed.")
