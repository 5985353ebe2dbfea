"""Problem details (RFC 9457): what the service responds when there is no answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from carbench.deploy.serve.refusals import RefusedError

MEDIA_TYPE = "application/problem+json"
WRONG = "One sentence: what is wrong, and what to do."


class Problem(BaseModel):
    """Why there is no answer."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str

    @classmethod
    def of(cls, status: int, detail: str) -> Problem:
        """Return the problem of an HTTP status."""
        return cls(title=HTTPStatus(status).phrase, status=status, detail=detail)


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a response that says what is wrong."""
    content = Problem.of(status, detail)
    return JSONResponse(content.model_dump(), status, headers, MEDIA_TYPE)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how FastAPI's description of an operation names its problems."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {
                MEDIA_TYPE: {
                    "schema": Problem.model_json_schema(),
                    "example": Problem.of(status, WRONG).model_dump(),
                }
            },
        }
        for status in statuses
    }


def of_kind(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Return how FastAPI's description of an operation names answers that it does not model."""
    schemas = {
        each: {"type": "object" if each == "application/json" else "string"} for each in media_types
    }
    return {200: {"content": {each: {"schema": schema} for each, schema in schemas.items()}}}


async def on_refusal(request: Request, error: RefusedError) -> JSONResponse:
    """Say why there is no answer."""
    return problem(error.status, str(error), error.headers)


async def on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    """Say what Starlette or a route found wrong."""
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"There is nothing at {request.url.path}; /docs lists what there is."
    if error.status_code == 405:
        detail = f"{request.url.path} does not take {request.method}; /docs says what it takes."
    return problem(error.status_code, detail, dict(error.headers or {}))


async def on_invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
    """Say what in an address is wrong."""
    parts = [
        f"{each['loc'][-1]}: {each['msg']}, found {each['input']!r}" for each in error.errors()
    ]
    return problem(422, f"{'; '.join(parts)}.")


async def on_bug(request: Request, error: Exception) -> JSONResponse:
    """Tell nothing of the inside; the traceback is in the service's own log."""
    return problem(500, "This is a bug in carbench; the service's log has more.")
