"""Who may use the service: names it is called by, web pages that may use it, an API key.

A service on this machine alone can be reached by every page in its user's browser. A page of
another origin cannot read the responses, but could fill the log with its images; and a host name
that is changed to 127.0.0.1 after the page was loaded (DNS rebinding) makes it the same origin.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from carbench.deploy.serve.problems import problem
from carbench.deploy.serve.settings import Settings

SAFE = ("GET", "HEAD", "OPTIONS")
# Readable without the API key: probes of an orchestrator, and the page that asks for the key.
OPEN = ("/", "/livez", "/readyz", "/theme.css", "/page.css", "/page.js", "/favicon.ico")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def allowed_hosts(host: str, others: list[str]) -> list[str]:
    """Return the names that the ``Host`` header may have.

    Args:
        host: the address that is listened on.
        others: further names; if there are none, a service that other machines can reach takes any.
    """
    if host in LOOPBACK:
        return [*LOOPBACK, *others]
    return [*LOOPBACK, host, *others] if others else ["*"]


class Access:
    """Middleware that refuses requests by ``Host``, ``Origin`` and API key."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._hosts = {name.lower() for name in settings.hosts}
        self._origins = {origin.lower().rstrip("/") for origin in settings.origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = (
            self._host_refusal(headers)
            or self._origin_refusal(scope, headers)
            or self._key_refusal(scope, headers)
        )
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, sentence = refusal
        extra = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        await problem(status, sentence, extra)(scope, receive, send)

    def _host_refusal(self, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if "*" in self._hosts or _name(host) in self._hosts:
            return None
        return 421, f"This service is not called {host!r}; see `carbench serve --allow-host`."

    def _origin_refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        if scope["method"] in SAFE:
            return None
        origin, host = headers.get("origin"), headers.get("host", "").lower()
        if origin is None:
            if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
                return None
        elif origin.lower() in self._origins or _authority(origin) == host != "":
            return None
        return 403, (
            f"Pages of {origin or 'another origin'} may not use this service; "
            "see `carbench serve --allow-origin`."
        )

    def _key_refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        expected = self._settings.key_sha256
        if expected is None or (scope["path"] in OPEN and scope["method"] in SAFE):
            return None
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            return None  # a browser asks on behalf of a page, before it sends the key
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        found = hashlib.sha256(key.encode("latin-1")).hexdigest()
        if hmac.compare_digest(found, expected):
            return None
        return 401, "An API key is needed: send `Authorization: Bearer KEY` or `X-API-Key: KEY`."


def _authority(origin: str) -> str:
    """Return host and port of an origin; "" of the origin ``null``."""
    return origin.lower().partition("://")[2]


def _name(host: str) -> str:
    """Return the name in a ``Host`` header, without port and brackets; "" if there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
