"""The web page at ``/`` and its static files."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from carbench.report.html.jinja import THEME

HERE = Path(__file__).parent
# The page loads only its own files, and sends images only to this service.
POLICY = (
    "default-src 'none'; img-src 'self' blob:; connect-src 'self'; script-src 'self'; "
    "style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# Browsers revalidate on each visit.
HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}

router = APIRouter(include_in_schema=False)


@router.get("/")
def page() -> Response:
    """Return the page."""
    return FileResponse(HERE / "page.html", media_type="text/html", headers=HEADERS)


@router.get("/theme.css")
def theme() -> Response:
    """Return the style sheet that all pages share."""
    return FileResponse(THEME, media_type="text/css", headers=HEADERS)


@router.get("/page.css")
def style() -> Response:
    """Return the style sheet of the page."""
    return FileResponse(HERE / "page.css", media_type="text/css", headers=HEADERS)


@router.get("/page.js")
def script() -> Response:
    """Return the script of the page."""
    return FileResponse(HERE / "page.js", media_type="text/javascript", headers=HEADERS)


@router.get("/favicon.ico")
def icon() -> Response:
    """Return an empty response: browsers always request an icon."""
    return Response(status_code=204)
