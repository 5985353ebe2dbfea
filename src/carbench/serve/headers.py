"""How long and how large the headers of a request may be: what uvicorn sets no limits to.

Bodies have theirs in :mod:`carbench.serve.door`, which sees a request when its headers are whole.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from carbench.serve.problems import problem


class HeaderLimits(HttpToolsProtocol):
    """A connection that is ended when a request's headers do not come, or do not end.

    Attributes:
        SECONDS: that headers may take to arrive, the first from when the connection was opened.
        MOST_BYTES: of the headers of a request.
    """

    SECONDS = 20.0
    MOST_BYTES = 65_536
    _timer: asyncio.TimerHandle | None = None
    _received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first headers."""
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Count what comes of headers."""
        super().data_received(data)
        if self._timer is not None:
            self._received += len(data)
            if self._received > self.MOST_BYTES:
                self._refuse(431, f"The headers are too large: at most {self.MOST_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """Wait for further headers."""
        super().on_message_begin()
        if self._timer is None:
            self._expect_headers()

    def on_headers_complete(self) -> None:
        """Let the request in."""
        self._end_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._end_timer()
        super().connection_lost(exc)

    def _expect_headers(self) -> None:
        self._received = 0
        self._timer = self.loop.call_later(self.SECONDS, self._out_of_time)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _out_of_time(self) -> None:
        if self._received:
            self._refuse(408, f"The headers did not arrive within {self.SECONDS:g} seconds.")
        else:  # a connection that was opened in advance, as browsers do
            self._end_timer()
            self.transport.close()

    def _refuse(self, status: int, sentence: str) -> None:
        self._end_timer()
        answer = problem(status, sentence, {"Connection": "close"})
        lines = [name + b": " + value + b"\r\n" for name, value in answer.raw_headers]
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", bytes(answer.body)]))
        self.transport.close()
