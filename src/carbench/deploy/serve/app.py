"""The service as an ASGI app. A worker process makes one by :func:`create_app`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from carbench.deploy.serve import metrics, page
from carbench.deploy.serve.access import Access
from carbench.deploy.serve.connections import SETTINGS, ConnectionWatch
from carbench.deploy.serve.observing import Head, Observed
from carbench.deploy.serve.problems import on_bug, on_http_exception, on_invalid_request, on_refusal
from carbench.deploy.serve.receiving import Receiving
from carbench.deploy.serve.refusals import RefusedError
from carbench.deploy.serve.routes import operation_routes, prediction_routes
from carbench.deploy.serve.service import Service
from carbench.deploy.serve.settings import Settings, handed_over
from carbench.deploy.serve.updating import follow_model, keep_house
from carbench.deploy.serve.workers import end_with_parent

# Of the API; the model has a version of its own.
VERSION = "1"


def create_app(settings: Settings | None = None) -> ASGIApp:
    """Return the service, ready to answer.

    Args:
        settings: None: those that the command handed over.

    Raises:
        CarbenchError: the model or the log cannot be used.
    """
    settings = settings or handed_over()
    service = Service(settings)
    receiving = Receiving(settings, metrics.RECEIVING.set)
    state = {"ready": False}

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Settings]]:
        end_with_parent()
        background: list[asyncio.Task[None]] = []
        try:
            await service.start()
            background += [
                asyncio.create_task(follow_model(service)),
                asyncio.create_task(keep_house(service)),
            ]
            state["ready"] = True
            yield {SETTINGS: settings}
        finally:
            state["ready"] = False
            for task in background:
                task.cancel()
            service.close()

    app = FastAPIOffline(
        title="carbench",
        description="Which of its classes an image of a car shows. Paths below `/v1` keep their "
        "meaning; without it they are the newest version.",
        version=VERSION,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_exception_handler(HTTPException, on_http_exception)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, on_invalid_request)  # type: ignore[arg-type]
    app.add_exception_handler(RefusedError, on_refusal)  # type: ignore[arg-type]
    app.add_exception_handler(ClientDisconnect, on_left)
    app.add_exception_handler(Exception, on_bug)
    routes = prediction_routes(service, receiving)
    app.include_router(routes, prefix="/v1")
    app.include_router(routes, include_in_schema=False)
    operation = operation_routes(service, state)
    app.include_router(operation)
    app.include_router(page.router)
    paths = {f"/v1{route.path}" for route in _api(routes)}
    paths |= {route.path for router in (routes, operation, page.router) for route in _api(router)}
    return layered(app, settings, paths)


def _api(router: APIRouter) -> list[APIRoute]:
    return [route for route in router.routes if isinstance(route, APIRoute)]


def layered(app: ASGIApp, settings: Settings, paths: set[str]) -> ASGIApp:
    """Return the app within its middleware.

    Args:
        app: what handles requests that get that far.
        settings: the limits.
        paths: of its routes.
    """
    app = Access(Head(app), settings)
    if settings.origins:
        app = CORSMiddleware(
            app,
            settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-api-key", "x-request-id"],
            expose_headers=["x-request-id", "retry-after"],
        )
    return Observed(ConnectionWatch(app, settings), paths)


async def on_left(request: Request, error: Exception) -> Response:
    """Respond to nobody; 499 is what the metrics count, as nginx does."""
    return Response(status_code=499)
