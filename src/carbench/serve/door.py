"""Who may come in: how many requests at a time, how large, how slowly.

An ASGI layer around the routes that take pictures, so that a request that is refused is not read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from carbench.serve.problems import problem
from carbench.serve.settings import Settings

RETRY = {"Retry-After": "1"}
BUSY = "The service has more pictures to look at than it can; try again in a second."


class Door:
    """Lets requests with pictures in, or says why not.

    Args:
        app: what handles those that come in.
        settings: the limits.
        paths: of the routes that take pictures.
        watch: called with how many requests are inside, whenever that changes.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, paths: set[str], watch: Callable[[int], None]
    ) -> None:
        self._app = app
        self._settings = settings
        self._paths = paths
        self._watch = watch
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI request."""
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or scope["path"].removeprefix(scope.get("root_path", "")) not in self._paths
        ):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self._inside >= self._settings.waiting:
            await problem(503, BUSY, RETRY)(scope, receive, send)
            return
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if kind != b"multipart/form-data":
            sentence = "The request has to be multipart/form-data with a file in it"
            found = f", not {kind.decode('latin-1')!r}" if kind else ""
            await problem(415, f"{sentence}{found}.")(scope, receive, send)
            return
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._settings.most_bytes:
            await problem(413, self._too_large())(scope, receive, send)
            return
        self._count(1)
        try:
            await self._app(scope, self._limited(receive), send)
        finally:
            self._count(-1)

    def _limited(self, receive: Receive) -> Callable[[], Awaitable[Message]]:
        """Return a receive that stops at the limits of size and time."""
        deadline = time.monotonic() + self._settings.upload_seconds
        received, whole = 0, False

        async def limited() -> Message:
            nonlocal received, whole
            if whole:  # what still comes is the news that the client has gone
                return await receive()
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                    message = await receive()
            except TimeoutError:
                seconds = f"{self._settings.upload_seconds:g} seconds"
                raise HTTPException(
                    408, f"The picture did not arrive within {seconds}.", {"Connection": "close"}
                ) from None
            received += len(message.get("body", b""))
            if received > self._settings.most_bytes:
                raise HTTPException(413, self._too_large(), {"Connection": "close"})
            whole = not message.get("more_body", False)
            return message

        return limited

    def _too_large(self) -> str:
        return f"The file is too large: at most {self._settings.most_bytes / 1e6:g} MB are taken."

    def _count(self, change: int) -> None:
        self._inside += change
        self._watch(self._inside)
