"""Error responses as problem details (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from carbench.deploy.serve.request_errors import RejectedRequestError

MEDIA_TYPE = "application/problem+json"
EXAMPLE_DETAIL = "What is wrong, and how to fix it."


class Problem(BaseModel):
    """Problem details of an error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str

    @classmethod
    def of(cls, status: int, detail: str) -> Problem:
        """Return the problem details for an HTTP status."""
        return cls(title=HTTPStatus(status).phrase, status=status, detail=detail)


def problem_response(
    status: int, detail: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """Return an error response."""
    content = Problem.of(status, detail)
    return JSONResponse(content.model_dump(), status, headers, MEDIA_TYPE)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of error responses, for FastAPI's ``responses``."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {
                MEDIA_TYPE: {
                    "schema": Problem.model_json_schema(),
                    "example": Problem.of(status, EXAMPLE_DETAIL).model_dump(),
                }
            },
        }
        for status in statuses
    }


def raw_response(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of a response without a model, for ``responses``."""
    schemas = {
        each: {"type": "object" if each == "application/json" else "string"} for each in media_types
    }
    return {200: {"content": {each: {"schema": schema} for each, schema in schemas.items()}}}


async def on_rejected_request(request: Request, error: RejectedRequestError) -> JSONResponse:
    """Return the response for a rejected request."""
    return problem_response(error.status, str(error), error.headers)


async def on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    """Return the response for an error that Starlette or a route raised."""
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"{request.url.path} does not exist; /docs lists all paths."
    if error.status_code == 405:
        detail = f"{request.url.path} does not accept {request.method}; /docs lists the methods."
    return problem_response(error.status_code, detail, dict(error.headers or {}))


async def on_invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
    """Return the response for invalid query parameters."""
    parts = [
        f"{each['loc'][-1]}: {each['msg']}, found {each['input']!r}" for each in error.errors()
    ]
    return problem_response(422, f"{'; '.join(parts)}.")


async def on_unexpected_error(request: Request, error: Exception) -> JSONResponse:
    """Return a response without internal details; the service logs the traceback."""
    return problem_response(
        500, "Internal error, a bug in carbench; the output of the service has the traceback."
    )
