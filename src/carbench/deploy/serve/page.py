"""The page for people at ``/``, and what it is made of."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from carbench.report.html.jinja import THEME

HERE = Path(__file__).parent
# It loads nothing but what lies here, and sends images nowhere else.
POLICY = (
    "default-src 'none'; img-src 'self' blob:; connect-src 'self'; script-src 'self'; "
    "style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# Browsers ask each time whether it is still the same.
HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}

router = APIRouter(include_in_schema=False)


@router.get("/")
def page() -> Response:
    """Return the page."""
    return FileResponse(HERE / "page.html", media_type="text/html", headers=HEADERS)


@router.get("/theme.css")
def theme() -> Response:
    """Return how all pages look."""
    return FileResponse(THEME, media_type="text/css", headers=HEADERS)


@router.get("/page.css")
def style() -> Response:
    """Return how this one looks."""
    return FileResponse(HERE / "page.css", media_type="text/css", headers=HEADERS)


@router.get("/page.js")
def script() -> Response:
    """Return what it does."""
    return FileResponse(HERE / "page.js", media_type="text/javascript", headers=HEADERS)


@router.get("/favicon.ico")
def icon() -> Response:
    """Return that there is none: browsers ask for it unasked."""
    return Response(status_code=204)
