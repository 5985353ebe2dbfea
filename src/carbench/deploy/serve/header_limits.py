"""Limits on the size of request headers and on the time in which they arrive.

uvicorn has no such limits, but accepts a protocol class (``http=``). The class here wraps uvicorn's
own protocol and uses only asyncio's interface. :class:`HeaderLimitMiddleware`, an ASGI middleware,
informs it when a request starts and finishes, through the state that every request carries.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from carbench.deploy.serve.problem_details import problem_response
from carbench.deploy.serve.settings import Settings

# Keys of the request state.
CONNECTION_KEY, SETTINGS_KEY = "connection", "settings"
# The rest of a body that is not needed is read up to this many bytes and seconds, so that a client
# that is still sending receives the response before the connection is closed.
DRAIN_BYTES, DRAIN_SECONDS = 64_000_000, 10.0
# Seconds for which data that arrives after a rejection is discarded.
LINGER_SECONDS = 1.0


class HeaderLimitProtocol(asyncio.Protocol):
    """Protocol that wraps uvicorn's and limits the request headers.

    Data that arrives while no request is in progress belongs to headers: ``header_timeout`` and
    ``max_header_bytes`` apply. The settings come from the lifespan state of the app.
    """

    # Connections of this process that wait for a request, the longest idle one first.
    idle: dict[HeaderLimitProtocol, None] = {}  # noqa: RUF012  shared by all instances
    open_count = 0

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._inner = HttpToolsProtocol(
            config, server_state, app_state | {CONNECTION_KEY: self}, _loop
        )
        self.settings: Settings = app_state[SETTINGS_KEY]
        self._timer: asyncio.TimerHandle | None = None
        self._in_progress = 0
        self._received = 0
        self._max_bytes = self.settings.max_header_bytes
        self._rejected = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first headers."""
        self._transport = transport
        self._inner.connection_made(transport)
        HeaderLimitProtocol.open_count += 1
        self._expect_headers(self.settings.max_header_bytes, self.settings.header_timeout)
        if HeaderLimitProtocol.open_count > self.settings.max_connections:
            next(iter(self.idle))._close()

    def data_received(self, data: bytes) -> None:
        """Forward data, and count the bytes of headers."""
        if self._rejected:
            return
        if not self._in_progress:
            self._received += len(data)
        self._inner.data_received(data)
        if not self._in_progress and self._received > self._max_bytes:
            # Deferred: if the data is headers and the start of a body, the request starts first.
            asyncio.get_running_loop().call_soon(self._reject_if_too_large)

    def eof_received(self) -> None:
        """Forward the event."""
        self._inner.eof_received()

    def pause_writing(self) -> None:
        """Forward the event."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Forward the event."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        HeaderLimitProtocol.open_count -= 1
        self._leave_idle()
        self._inner.connection_lost(exc)

    def request_started(self) -> None:
        """Handle the end of the headers."""
        self._in_progress += 1
        self._leave_idle()

    def request_finished(self, body_received: bool) -> None:
        """Handle the end of a response; headers are expected next.

        Args:
            body_received: whether the body was received completely; if not, the rest is read and
                discarded.
        """
        self._in_progress -= 1
        if not self._in_progress and not self._transport.is_closing():
            if body_received:
                self._expect_headers(self.settings.max_header_bytes, self.settings.header_timeout)
            else:
                self._expect_headers(DRAIN_BYTES, DRAIN_SECONDS)

    def _expect_headers(self, max_bytes: int, seconds: float) -> None:
        self._received, self._max_bytes = 0, max_bytes
        self.idle[self] = None
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_timeout)

    def _leave_idle(self) -> None:
        self.idle.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        if self._received and self._max_bytes == self.settings.max_header_bytes:
            seconds = f"{self.settings.header_timeout:g} seconds"
            self._reject(408, f"The headers did not arrive within {seconds}.")
        else:  # browsers open connections in advance
            self._close()

    def _reject_if_too_large(self) -> None:
        if not self._in_progress and self._received > self._max_bytes:
            self._reject(431, f"The headers are too large: at most {self._max_bytes} bytes.")

    def _reject(self, status: int, message: str) -> None:
        if self._max_bytes == self.settings.max_header_bytes and not self._transport.is_closing():
            response = problem_response(status, message, {"Connection": "close"})
            lines = [name + b": " + value + b"\r\n" for name, value in response.raw_headers]
            title = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
            self._transport.write(b"".join([title, *lines, b"\r\n", bytes(response.body)]))
            self._rejected = True
            self._leave_idle()
            # If closed at once with unread data, the response could be lost.
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._close)
            self._transport.write_eof()
        else:
            self._close()

    def _close(self) -> None:
        self._leave_idle()
        self._transport.close()


class HeaderLimitMiddleware:
    """ASGI middleware that rejects large headers and tracks requests for the protocol.

    :class:`HeaderLimitProtocol` can only reject headers that arrive in pieces. Headers that arrive
    complete in a single read are measured here.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._max_bytes = settings.max_header_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI request."""
        connection = scope.get("state", {}).get(CONNECTION_KEY)
        if scope["type"] != "http" or connection is None:
            await self._app(scope, receive, send)
            return
        body_received = not _has_body(scope)

        async def receive_and_track() -> Message:
            nonlocal body_received
            message = await receive()
            body_received = body_received or not message.get("more_body", False)
            return message

        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        connection.request_started()
        try:
            if size > self._max_bytes:
                message = f"The headers are too large: at most {self._max_bytes} bytes."
                await problem_response(431, message, {"Connection": "close"})(scope, receive, send)
            else:
                await self._app(scope, receive_and_track, send)
        finally:
            connection.request_finished(body_received)


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
