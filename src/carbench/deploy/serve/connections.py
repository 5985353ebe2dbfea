"""Connections whose requests have headers of limited size that arrive in limited time.

uvicorn has no such limits, but takes a class for its connections (``http=``). This one stands
between a transport and uvicorn's own class and uses nothing of it but asyncio's interface; when a
request begins and ends it learns from :class:`ConnectionWatch`, an ASGI middleware, through the
state that every request carries.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from carbench.deploy.serve.problems import problem
from carbench.deploy.serve.settings import Settings

# Keys of the state.
STATE, SETTINGS = "connection", "settings"
# Of a body that is not wanted: bytes and seconds for which it is read, so that the client, who may
# still be sending, gets the response before the connection ends.
UNWANTED_BYTES, UNWANTED_SECONDS = 64_000_000, 10.0
# For which what still arrives after a refusal is dropped.
LINGER_SECONDS = 1.0


class Connection(asyncio.Protocol):
    """A connection in front of uvicorn's.

    While no request is being answered, what arrives are headers: they have ``header_seconds`` and
    ``header_bytes``. The settings come with the state of the app's lifespan.
    """

    # Those that wait for a request, the one that waits for longest first; of this process.
    waiting: dict[Connection, None] = {}  # noqa: RUF012  shared on purpose
    count = 0

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._inner = HttpToolsProtocol(config, server_state, app_state | {STATE: self}, _loop)
        self.settings: Settings = app_state[SETTINGS]
        self._timer: asyncio.TimerHandle | None = None
        self._answering = 0
        self._received = 0
        self._most = self.settings.header_bytes
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first headers."""
        self._transport = transport
        self._inner.connection_made(transport)
        Connection.count += 1
        self._expect_headers(self.settings.header_bytes, self.settings.header_seconds)
        if Connection.count > self.settings.connections:
            next(iter(self.waiting))._close()

    def data_received(self, data: bytes) -> None:
        """Pass data on, and count what belongs to headers."""
        if self._refused:
            return
        if not self._answering:
            self._received += len(data)
        self._inner.data_received(data)
        if not self._answering and self._received > self._most:
            # If these are headers with the beginning of a body, the request begins before that.
            asyncio.get_running_loop().call_soon(self._refuse_large)

    def eof_received(self) -> None:
        """Pass it on."""
        self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        Connection.count -= 1
        self._stop_waiting()
        self._inner.connection_lost(exc)

    def request_begins(self) -> None:
        """Note that the headers are complete."""
        self._answering += 1
        self._stop_waiting()

    def request_ends(self, whole: bool) -> None:
        """Note that a request was answered; what arrives next are headers.

        Args:
            whole: whether its body was received; if not, what remains of it is read and dropped.
        """
        self._answering -= 1
        if not self._answering and not self._transport.is_closing():
            if whole:
                self._expect_headers(self.settings.header_bytes, self.settings.header_seconds)
            else:
                self._expect_headers(UNWANTED_BYTES, UNWANTED_SECONDS)

    def _expect_headers(self, most: int, seconds: float) -> None:
        self._received, self._most = 0, most
        self.waiting[self] = None
        self._timer = asyncio.get_running_loop().call_later(seconds, self._out_of_time)

    def _stop_waiting(self) -> None:
        self.waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _out_of_time(self) -> None:
        self._timer = None
        if self._received and self._most == self.settings.header_bytes:
            seconds = f"{self.settings.header_seconds:g} seconds"
            self._refuse(408, f"The headers did not arrive within {seconds}.")
        else:  # a connection that was opened in advance, as browsers do
            self._close()

    def _refuse_large(self) -> None:
        if not self._answering and self._received > self._most:
            self._refuse(431, f"The headers are too large: at most {self._most} bytes.")

    def _refuse(self, status: int, sentence: str) -> None:
        if self._most == self.settings.header_bytes and not self._transport.is_closing():
            response = problem(status, sentence, {"Connection": "close"})
            lines = [name + b": " + value + b"\r\n" for name, value in response.raw_headers]
            title = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
            self._transport.write(b"".join([title, *lines, b"\r\n", bytes(response.body)]))
            self._refused = True
            self._stop_waiting()
            # Closed at once, with data that was not read, the response might be lost.
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._close)
            self._transport.write_eof()
        else:
            self._close()

    def _close(self) -> None:
        self._stop_waiting()
        self._transport.close()


class ConnectionWatch:
    """Tells a :class:`Connection` when a request begins and ends, and refuses large headers.

    The connection can only refuse headers that arrive in pieces: when they are complete in what it
    is given at once, this middleware counts them.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._most = settings.header_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI request."""
        connection = scope.get("state", {}).get(STATE)
        if scope["type"] != "http" or connection is None:
            await self._app(scope, receive, send)
            return
        whole = not _has_body(scope)

        async def watched() -> Message:
            nonlocal whole
            message = await receive()
            whole = whole or not message.get("more_body", False)
            return message

        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        connection.request_begins()
        try:
            if size > self._most:
                sentence = f"The headers are too large: at most {self._most} bytes."
                await problem(431, sentence, {"Connection": "close"})(scope, receive, send)
            else:
                await self._app(scope, watched, send)
        finally:
            connection.request_ends(whole)


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
