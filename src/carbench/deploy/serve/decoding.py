"""Decoding in processes of their own (:mod:`carbench.deploy.serve.decoder`), ordinary images first.

Two lanes: ordinary images are decoded at normal priority, large ones by one process of low
priority, so that those who send large ones wait for each other and hardly anybody for them.
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
from carbench.deploy.bundle.folder import Deployed
from carbench.deploy.serve.decoder import message
from carbench.deploy.serve.refusals import BUSY, LATE, RefusedError
from carbench.deploy.serve.settings import Settings

# Work (pixels) of an image up to which it is ordinary: 0.1 to 0.3 s of a core.
ORDINARY = 5_000_000
# Processor time after which an image that looked ordinary is treated as a large one.
ORDINARY_SECONDS = 0.7
NICE = 10
# Seconds that a job may go on when nobody waits for it any more: starting a process costs as much.
GRACE = 0.5


@dataclass(frozen=True)
class Shrunk:
    """An image as the model is shown it.

    Attributes:
        content: the file.
        pixels: (S, S, 3) uint8.
        facts: format, width, height and whether it is animated, as stored.
        milliseconds: that decoding and resizing took.
    """

    content: bytes
    pixels: NDArray[np.uint8]
    facts: dict[str, Any]
    milliseconds: float


class DecoderEndedError(Exception):
    """The process ended during a job; the argument is the signal, or its negative exit status."""


class Decoder:
    """One decoding process, started with the first job and again after it has ended."""

    def __init__(self, memory: int, nice: int) -> None:
        self._arguments = [str(memory), str(nice)]
        self._process: subprocess.Popen[bytes] | None = None

    async def ask(self, job: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        """Return the reply to a job.

        Raises:
            DecoderEndedError: there is none.
        """
        if self._process is None:
            await self.start()
        process = self._process
        assert process is not None
        try:
            self._writer.write(message(job, content))
            await self._writer.drain()
            reply = json.loads(await self._reader.readline())
            return reply, await self._reader.readexactly(reply["bytes"])
        except (OSError, EOFError, ValueError):
            self.kill()
            raise DecoderEndedError(-process.wait()) from None

    async def start(self) -> None:
        """Start the process."""
        own, other = socket.socketpair()
        with other:
            number = str(other.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-m", "carbench.deploy.serve.decoder", number, *self._arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
            )
        self._reader, self._writer = await asyncio.open_connection(sock=own)

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._writer.close()
            self._process = None


class Lane:
    """Some decoding processes that take jobs in the order in which they come."""

    def __init__(self, count: int, memory: int, nice: int) -> None:
        self.decoders = [Decoder(memory, nice) for _ in range(count)]
        self._idle: asyncio.Queue[Decoder] = asyncio.Queue()
        for decoder in self.decoders:
            self._idle.put_nowait(decoder)
        self._ending: set[asyncio.Task[None]] = set()

    async def ask(self, job: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        """Return the reply to a job, when it is its turn; if cancelled, soon end the job.

        Raises:
            DecoderEndedError: the process ended during the job.
        """
        decoder = await self._idle.get()
        task = asyncio.create_task(decoder.ask(job, content))
        try:
            reply = await asyncio.shield(task)
        except asyncio.CancelledError:
            ending = asyncio.create_task(self._end(decoder, task))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            raise
        except BaseException:
            self._idle.put_nowait(decoder)
            raise
        self._idle.put_nowait(decoder)
        return reply

    async def _end(self, decoder: Decoder, task: asyncio.Task[Any]) -> None:
        """Wait a moment for a job that nobody waits for, then kill its process."""
        try:
            await asyncio.wait([task], timeout=GRACE)
            if not task.done():
                decoder.kill()
            await asyncio.gather(task, return_exceptions=True)
        finally:
            self._idle.put_nowait(decoder)

    def close(self) -> None:
        """End all processes."""
        for decoder in self.decoders:
            decoder.kill()


class Decoders:
    """All decoding processes of a worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # One more than compute at a time, so that one image that is slow does not stop the others.
        self._ordinary = Lane(settings.threads + 1, settings.decode_memory, 0)
        self._large = Lane(1, settings.decode_memory, NICE)
        self._large_places = settings.large_waiting

    async def start(self) -> None:
        """Start the processes of ordinary images."""
        await asyncio.gather(*(each.start() for each in self._ordinary.decoders))

    def close(self) -> None:
        """End all processes."""
        self._ordinary.close()
        self._large.close()

    @asynccontextmanager
    async def admit(
        self, contents: list[bytes], model: Deployed, deadline: float
    ) -> AsyncIterator[None]:
        """Let a request with several images in, by the work that their headers announce.

        Args:
            contents: the image files.
            model: that will be shown them.
            deadline: of :func:`time.monotonic`.

        Raises:
            RefusedError: they are too much work, or too many others wait with large images.
        """
        found = [await self._probe(content, model, deadline) for content in contents]
        works = [work for work in found if work <= self._settings.most_work]
        if sum(works) > self._settings.most_work:
            raise self._too_much("images", sum(works))
        if max(works, default=0) <= ORDINARY:
            yield
            return
        with self._place():
            yield

    async def _probe(self, content: bytes, model: Deployed, deadline: float) -> float:
        job = {"probe": True, "size": model.size, "seconds": _left(deadline)}
        job["cpu_seconds"] = ORDINARY_SECONDS
        try:
            reply, _ = await self._ordinary.ask(job, content)
        except DecoderEndedError:
            return 0.0  # decoding will end in the same way, and say so
        return float(reply.get("work", 0.0))

    async def shrink(
        self, content: bytes, model: Deployed, deadline: float, admitted: bool = False
    ) -> Shrunk:
        """Decode an image and bring it to the size that a model is shown.

        Args:
            content: the image file.
            model: that will be shown it.
            deadline: of :func:`time.monotonic`.
            admitted: :meth:`admit` has let its request in.

        Raises:
            RefusedError: there is no such image; the sentence says why.
        """
        job: dict[str, Any] = {
            "size": model.size,
            "fit": model.fit,
            "most_pixels": self._settings.most_pixels,
            "most_work": ORDINARY,
            "seconds": _left(deadline),
            "cpu_seconds": ORDINARY_SECONDS,
        }
        try:
            reply, pixels = await self._ordinary.ask(job, content)
        except DecoderEndedError as error:
            if error.args[0] != signal.SIGPROF:
                raise _ended(error) from None
            reply, pixels = {"outcome": "work", "work": ORDINARY}, b""
        if reply["outcome"] == "work":
            if reply["work"] > self._settings.most_work:
                raise self._too_much("image", reply["work"])
            job |= {"most_work": self._settings.most_work, "cpu_seconds": None}
            if admitted:
                reply, pixels = await self._ask_large(job, content, deadline)
            else:
                with self._place():
                    reply, pixels = await self._ask_large(job, content, deadline)
        if reply["outcome"] != "done":
            raise self._refusal(reply)
        side = model.size
        array = np.frombuffer(pixels, np.uint8).reshape(side, side, 3)
        return Shrunk(content, array, reply["facts"], round(1000 * reply["seconds"], 3))

    async def _ask_large(
        self, job: dict[str, Any], content: bytes, deadline: float
    ) -> tuple[dict[str, Any], bytes]:
        try:
            return await self._large.ask(job | {"seconds": _left(deadline)}, content)
        except DecoderEndedError as error:
            raise _ended(error) from None

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Take one of the places of requests with large images."""
        if self._large_places == 0:
            raise RefusedError(503, BUSY)
        self._large_places -= 1
        try:
            yield
        finally:
            self._large_places += 1

    def _too_much(self, what: str, work: float) -> RefusedError:
        most = self._settings.most_work / 1e6
        return RefusedError(
            413,
            f"The {what} would take too much work to decode: as much as {work / 1e6:.0f} million "
            f"pixels, and at most {most:g} million are decoded for a request.",
        )

    def _refusal(self, reply: dict[str, Any]) -> RefusedError:
        match reply["outcome"]:
            case "unknown format":
                formats = ", ".join(FORMATS)
                return RefusedError(
                    415, f"The file is {reply['reason']}. Supported formats: {formats}."
                )
            case "too many pixels":
                most = self._settings.most_pixels / 1e6
                return RefusedError(
                    413, f"The image has too many pixels: at most {most:g} million are decoded."
                )
            case "memory":
                most = self._settings.decode_memory / 1e6
                return RefusedError(
                    413, f"The image takes more than {most:g} MB of memory to decode."
                )
            case _:
                return RefusedError(422, f"The image cannot be decoded: {reply['reason']}.")


def _left(deadline: float) -> float:
    """Return the seconds to a deadline, at least a hundredth."""
    return max(deadline - time.monotonic(), 0.01)


def _ended(error: DecoderEndedError) -> RefusedError:
    if error.args[0] == signal.SIGALRM:
        return RefusedError(503, LATE)
    if error.args[0] < 0:  # not by a signal
        return RefusedError(503, "The decoding process ended; the service's own log says why.")
    return RefusedError(422, "The image cannot be decoded: its decoder crashed.")
