"""The service as an ASGI app; each worker process creates one with :func:`create_app`."""

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

from carbench.deploy.serve import metrics, web_page
from carbench.deploy.serve.access_control import AccessControl
from carbench.deploy.serve.background_tasks import (
    run_maintenance,
    stop_with_supervisor,
    watch_for_new_model,
)
from carbench.deploy.serve.header_limits import SETTINGS_KEY, HeaderLimitMiddleware
from carbench.deploy.serve.problem_details import (
    on_http_exception,
    on_invalid_request,
    on_rejected_request,
    on_unexpected_error,
)
from carbench.deploy.serve.request_bodies import BodyReceiver
from carbench.deploy.serve.request_errors import RejectedRequestError
from carbench.deploy.serve.request_middleware import HeadRequests, RequestTelemetry
from carbench.deploy.serve.routes import operation_routes, prediction_routes
from carbench.deploy.serve.service import PredictionService
from carbench.deploy.serve.settings import Settings, settings_from_environment

# Version of the API; the model has its own version.
API_VERSION = "1"


def create_app(settings: Settings | None = None) -> ASGIApp:
    """Return the app.

    Args:
        settings: None: read them from the environment, where ``carbench serve`` stores them.

    Raises:
        CarbenchError: the model or the log cannot be used.
    """
    settings = settings or settings_from_environment()
    service = PredictionService(settings)
    receiving = BodyReceiver(settings, metrics.RECEIVING.set)
    state = {"ready": False}

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Settings]]:
        stop_with_supervisor()
        background: list[asyncio.Task[None]] = []
        try:
            await service.start()
            background += [
                asyncio.create_task(watch_for_new_model(service)),
                asyncio.create_task(run_maintenance(service)),
            ]
            state["ready"] = True
            yield {SETTINGS_KEY: settings}
        finally:
            state["ready"] = False
            for task in background:
                task.cancel()
            service.close()

    app = FastAPIOffline(
        title="carbench",
        description="Classifies images of cars. Paths below `/v1` remain compatible; paths without "
        "a version are the newest version.",
        version=API_VERSION,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_exception_handler(HTTPException, on_http_exception)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, on_invalid_request)  # type: ignore[arg-type]
    app.add_exception_handler(RejectedRequestError, on_rejected_request)  # type: ignore[arg-type]
    app.add_exception_handler(ClientDisconnect, on_disconnect)
    app.add_exception_handler(Exception, on_unexpected_error)
    routes = prediction_routes(service, receiving)
    app.include_router(routes, prefix="/v1")
    app.include_router(routes, include_in_schema=False)
    operation = operation_routes(service, state)
    app.include_router(operation)
    app.include_router(web_page.router)
    paths = {f"/v1{route.path}" for route in _api(routes)}
    paths |= {
        route.path for router in (routes, operation, web_page.router) for route in _api(router)
    }
    return add_middleware(app, settings, paths)


def _api(router: APIRouter) -> list[APIRoute]:
    return [route for route in router.routes if isinstance(route, APIRoute)]


def add_middleware(app: ASGIApp, settings: Settings, paths: set[str]) -> ASGIApp:
    """Return the app wrapped in its middleware.

    Args:
        app: the app with its routes.
        settings: the limits.
        paths: paths of the routes, for the metrics.
    """
    app = AccessControl(HeadRequests(app), settings)
    if settings.allowed_origins:
        app = CORSMiddleware(
            app,
            settings.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-api-key", "x-request-id"],
            expose_headers=["x-request-id", "retry-after"],
        )
    return RequestTelemetry(HeaderLimitMiddleware(app, settings), paths)


async def on_disconnect(request: Request, error: Exception) -> Response:
    """Return a response that nobody receives; the metrics count 499, as nginx does."""
    return Response(status_code=499)
