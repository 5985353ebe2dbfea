"""Receiving request bodies, with limits on their number, size, time and total memory.

A body that is still arriving does not count towards the limit of requests in progress. If there are
too many, or they take too much memory, the oldest one is evicted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from carbench.deploy.serve.request_errors import RejectedRequestError
from carbench.deploy.serve.settings import Settings

# Seconds for which a body is never evicted.
MIN_SECONDS = 1.0
TOO_MANY_UPLOADS = "The service is receiving too many other requests; try again in a second."


class _PendingBody:
    """A body that is still arriving."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self.timeout = timeout
        self.started = asyncio.get_running_loop().time()
        self.received = bytearray()
        self.evicted = False

    def evict(self) -> None:
        """Abort it, as if its timeout had expired."""
        self.evicted = True
        self.timeout.reschedule(asyncio.get_running_loop().time())


class BodyReceiver:
    """Receives request bodies within the limits.

    Args:
        settings: the limits.
        on_change: called with the number of bodies that are still arriving, when it changes.
    """

    def __init__(
        self, settings: Settings, on_change: Callable[[int], None] = lambda _: None
    ) -> None:
        self._settings = settings
        self._on_change = on_change
        self._pending: dict[_PendingBody, None] = {}  # oldest first
        self._buffered = 0

    @property
    def pending(self) -> int:
        """Number of bodies that are still arriving."""
        return len(self._pending)

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Receive a body; it counts towards the memory limit until the context ends.

        Raises:
            RejectedRequestError: it is too large or too slow, or there are too many others.
            ClientDisconnect: the client closed the connection.
        """
        length = request.headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._settings.max_body_bytes:
            raise self._too_large()
        held = 0
        try:
            content = await self._receive(request)
            held = len(content)
            yield content
        finally:
            self._buffered -= held

    async def _receive(self, request: Request) -> bytes:
        """Return a body; its size is added to ``_buffered``."""
        self._make_room(self.pending >= self._settings.max_receiving)
        timeout = asyncio.timeout(self._settings.body_timeout)
        pending_body = _PendingBody(timeout)
        self._pending[pending_body] = None
        self._on_change(self.pending)
        complete = False
        try:
            async with timeout:
                while not complete:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    self._add(pending_body, message.get("body", b""))
                    complete = not message.get("more_body", False)
        except TimeoutError:
            if pending_body.evicted:
                raise RejectedRequestError(503, TOO_MANY_UPLOADS) from None
            seconds = f"{self._settings.body_timeout:g} seconds"
            raise RejectedRequestError(
                408, f"The request body did not arrive within {seconds}.", close=True
            ) from None
        finally:
            del self._pending[pending_body]
            self._on_change(self.pending)
            if not complete:
                self._buffered -= len(pending_body.received)
        return bytes(pending_body.received)

    def _add(self, pending_body: _PendingBody, part: bytes) -> None:
        if len(pending_body.received) + len(part) > self._settings.max_body_bytes:
            raise self._too_large()
        pending_body.received += part
        self._buffered += len(part)
        self._make_room(self._buffered > self._settings.max_buffered_bytes, pending_body)

    def _make_room(self, needed: bool, requested_by: _PendingBody | None = None) -> None:
        """Evict the oldest body, if needed.

        Raises:
            RejectedRequestError: there is none older than ``MIN_SECONDS``.
        """
        if not needed:
            return
        now = asyncio.get_running_loop().time()
        others = (each for each in self._pending if each is not requested_by and not each.evicted)
        oldest = next(others, None)
        if oldest is None or now - oldest.started < MIN_SECONDS:
            raise RejectedRequestError(503, TOO_MANY_UPLOADS)
        oldest.evict()

    def _too_large(self) -> RejectedRequestError:
        limit = self._settings.max_body_bytes / 1e6
        return RejectedRequestError(
            413, f"The request body is too large: at most {limit:g} MB are accepted."
        )
