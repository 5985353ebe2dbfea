"""Receiving the bodies of requests: how many at a time, how large, how slowly.

A body that arrives slowly holds none of the places of requests in work. If too many arrive at a
time, or they fill too much memory, the one that has been arriving for longest makes room.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from carbench.deploy.serve.refusals import RefusedError
from carbench.deploy.serve.settings import Settings

# Seconds that every body has at least, however many others there are.
LEAST = 1.0
CROWDED = "The service is receiving too many other requests; try again in a second."


class _Arrival:
    """A body that is arriving, or has arrived and is still held in memory."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self.timeout = timeout
        self.started = asyncio.get_running_loop().time()
        self.received = bytearray()
        self.evicted = False

    def evict(self) -> None:
        """Let it end as if its time were over."""
        self.evicted = True
        self.timeout.reschedule(asyncio.get_running_loop().time())


class Receiving:
    """The bodies that are held in memory, and the limits to them.

    Args:
        settings: the limits.
        watch: called with the number of bodies that have not arrived yet, when it changes.
    """

    def __init__(self, settings: Settings, watch: Callable[[int], None] = lambda _: None) -> None:
        self._settings = settings
        self._watch = watch
        self._arriving: dict[_Arrival, None] = {}  # the oldest first
        self._buffered = 0

    @property
    def arriving(self) -> int:
        """How many bodies have not arrived yet."""
        return len(self._arriving)

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Receive a body; it counts as held in memory until this context ends.

        Raises:
            RefusedError: it is too large or too slow, or there are too many others.
            ClientDisconnect: the client left.
        """
        length = request.headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._settings.most_bytes:
            raise self._too_large()
        held = 0
        try:
            content = await self._receive(request)
            held = len(content)
            yield content
        finally:
            self._buffered -= held

    async def _receive(self, request: Request) -> bytes:
        """Return a body, counted in ``_buffered``."""
        self._make_room(self.arriving >= self._settings.receiving)
        timeout = asyncio.timeout(self._settings.upload_seconds)
        arrival = _Arrival(timeout)
        self._arriving[arrival] = None
        self._watch(self.arriving)
        whole = False
        try:
            async with timeout:
                while not whole:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    self._add(arrival, message.get("body", b""))
                    whole = not message.get("more_body", False)
        except TimeoutError:
            if arrival.evicted:
                raise RefusedError(503, CROWDED) from None
            seconds = f"{self._settings.upload_seconds:g} seconds"
            raise RefusedError(
                408, f"The body did not arrive within {seconds}.", close=True
            ) from None
        finally:
            del self._arriving[arrival]
            self._watch(self.arriving)
            if not whole:
                self._buffered -= len(arrival.received)
        return bytes(arrival.received)

    def _add(self, arrival: _Arrival, part: bytes) -> None:
        if len(arrival.received) + len(part) > self._settings.most_bytes:
            raise self._too_large()
        arrival.received += part
        self._buffered += len(part)
        self._make_room(self._buffered > self._settings.most_buffered, arrival)

    def _make_room(self, needed: bool, for_: _Arrival | None = None) -> None:
        """Evict the body that has been arriving for longest.

        Raises:
            RefusedError: there is none that had its time.
        """
        if not needed:
            return
        now = asyncio.get_running_loop().time()
        others = (each for each in self._arriving if each is not for_ and not each.evicted)
        oldest = next(others, None)
        if oldest is None or now - oldest.started < LEAST:
            raise RefusedError(503, CROWDED)
        oldest.evict()

    def _too_large(self) -> RefusedError:
        most = self._settings.most_bytes / 1e6
        return RefusedError(413, f"The body is too large: at most {most:g} MB are accepted.")
