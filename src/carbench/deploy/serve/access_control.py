"""ASGI middleware for access control: ``Host`` header, ``Origin`` header and API key.

Even a service that listens on 127.0.0.1 only is reachable from every web page in the user's
browser. A page of another origin cannot read the responses, but it could fill the log with its
images. With DNS rebinding (a host name that changes to 127.0.0.1 after the page was loaded), the
page even has the same origin.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from carbench.deploy.serve.problem_details import problem_response
from carbench.deploy.serve.settings import Settings

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# Accessible without the API key: health checks, and the web page that prompts for the key.
PUBLIC_PATHS = ("/", "/livez", "/readyz", "/theme.css", "/page.css", "/page.js", "/favicon.ico")
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


def resolve_allowed_hosts(host: str, others: list[str]) -> list[str]:
    """Return the accepted values of the ``Host`` header.

    Args:
        host: the address that the service listens on.
        others: further names; if there are none, a service that other machines can reach accepts
            any name.
    """
    if host in LOOPBACK_HOSTS:
        return [*LOOPBACK_HOSTS, *others]
    return [*LOOPBACK_HOSTS, host, *others] if others else ["*"]


class AccessControl:
    """Middleware that rejects requests by ``Host``, ``Origin`` and API key."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._hosts = {name.lower() for name in settings.allowed_hosts}
        self._origins = {origin.lower().rstrip("/") for origin in settings.allowed_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        rejection = (
            self._check_host(headers)
            or self._check_origin(scope, headers)
            or self._check_key(scope, headers)
        )
        if rejection is None:
            await self._app(scope, receive, send)
            return
        status, message = rejection
        extra = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        await problem_response(status, message, extra)(scope, receive, send)

    def _check_host(self, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if "*" in self._hosts or _name(host) in self._hosts:
            return None
        return 421, f"The host name {host!r} is not allowed; see `carbench serve --allow-host`."

    def _check_origin(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        if scope["method"] in SAFE_METHODS:
            return None
        origin, host = headers.get("origin"), headers.get("host", "").lower()
        if origin is None:
            if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
                return None
        elif origin.lower() in self._origins or _authority(origin) == host != "":
            return None
        return 403, (
            f"Web pages of {origin or 'another origin'} may not use this service; "
            "see `carbench serve --allow-origin`."
        )

    def _check_key(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        expected = self._settings.api_key_sha256
        if expected is None or (scope["path"] in PUBLIC_PATHS and scope["method"] in SAFE_METHODS):
            return None
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            return None  # a CORS preflight request, which carries no key
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        actual = hashlib.sha256(key.encode("latin-1")).hexdigest()
        if hmac.compare_digest(actual, expected):
            return None
        return 401, "An API key is required: send `Authorization: Bearer KEY` or `X-API-Key: KEY`."


def _authority(origin: str) -> str:
    """Return host and port of an origin; "" for the origin ``null``."""
    return origin.lower().partition("://")[2]


def _name(host: str) -> str:
    """Return the name in a ``Host`` header, without port and brackets; "" if there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
