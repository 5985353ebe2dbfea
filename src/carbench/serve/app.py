"""The service's routes. A worker process makes one app by :func:`create_app`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from carbench.drift.page import as_json, render
from carbench.serve import metrics, page
from carbench.serve.answers import BatchAnswer, Classes, Prediction, State
from carbench.serve.door import BUSY, RETRY, Door
from carbench.serve.monitoring import Monitor
from carbench.serve.problems import (
    Problem,
    of_kind,
    on_bug,
    on_http_exception,
    on_invalid_request,
    problem,
    responses,
)
from carbench.serve.service import RefusedError, Service
from carbench.serve.settings import Settings, handed_over
from carbench.serve.uploads import described, read_files
from carbench.serve.workers import end_with_parent

Result = TypeVar("Result")
MONITORING_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
UPLOADS = {"/predict", "/predict_batch"}


def create_app(settings: Settings | None = None) -> ASGIApp:
    """Return the service, ready to answer.

    Args:
        settings: None: those that the command handed over.

    Raises:
        CarbenchError: the model or the log cannot be used.
    """
    settings = settings or handed_over()
    service = Service(settings)
    monitor = Monitor(service.model, settings)
    threads = ThreadPoolExecutor(settings.threads, "pictures")
    turns = asyncio.Semaphore(settings.threads)
    state = {"ready": False}

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        end_with_parent()
        service.warm_up()
        metrics.MODEL.labels(service.model.version).set(1)
        state["ready"] = True
        yield
        state["ready"] = False
        threads.shutdown()

    app = FastAPIOffline(
        title="carbench",
        description="Which of its classes a picture of a car shows.",
        version=service.model.version,
        lifespan=lifespan,
    )
    app.add_exception_handler(HTTPException, on_http_exception)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, on_invalid_request)  # type: ignore[arg-type]
    app.add_exception_handler(RefusedError, on_refusal)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, on_bug)

    async def in_turn(work: Callable[..., Result], *args: Any) -> Result:
        """Do work in a thread, when it is this request's turn."""
        try:
            async with asyncio.timeout(settings.patience):
                await turns.acquire()
        except TimeoutError:
            raise RefusedError(503, BUSY) from None
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, work, *args)
        finally:
            turns.release()

    @app.post(
        "/predict",
        response_model=Prediction,
        responses=responses(400, 408, 413, 415, 422, 503),
        openapi_extra=described("image", many=False),
        summary="What a picture shows",
    )
    async def predict(request: Request) -> Response:
        started = time.perf_counter()
        (content,) = await read_files(request, "image", 1)
        answer = await in_turn(service.answer, content, started)
        count(answer)
        return JSONResponse(answer)

    @app.post(
        "/predict_batch",
        response_model=BatchAnswer,
        responses=responses(400, 408, 413, 415, 422, 503),
        openapi_extra=described("images", many=True),
        summary="What several pictures show",
    )
    async def predict_batch(request: Request) -> Response:
        started = time.perf_counter()
        contents = await read_files(request, "images", settings.most_pictures)
        entries = []
        for answer in await in_turn(service.answer_all, contents, started):
            if isinstance(answer, RefusedError):
                entries.append(Problem.of(answer.status, str(answer)).model_dump())
            else:
                count(answer)
                entries.append(answer)
        return JSONResponse({"predictions": entries})

    @app.get("/classes", summary="The classes that the model knows")
    def classes() -> Classes:
        return Classes(classes=service.model.classes)

    @app.get("/model", summary="What the model is, how good, and from what")
    def model() -> dict[str, Any]:
        return service.model.about

    @app.get("/livez", summary="Whether the process is alive")
    async def livez() -> State:
        return State(status="alive")

    @app.get(
        "/readyz",
        response_model=State,
        responses=responses(503),
        summary="Whether the model has answered once",
    )
    async def readyz() -> Response:
        if not state["ready"]:
            return problem(503, "The model has not answered yet.", RETRY)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", responses=of_kind("text/plain"), summary="For Prometheus")
    def prometheus() -> Response:
        monitor.look()
        return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE_LATEST)

    @app.get(
        "/monitoring",
        responses=of_kind("text/html", "application/json") | responses(422),
        summary="Whether pictures have changed",
    )
    def monitoring(
        request: Request,
        form: Annotated[Literal["html", "json"] | None, Query(alias="format")] = None,
    ) -> Response:
        drift = monitor.look()
        asked = form or (
            "json" if "application/json" in request.headers.get("accept", "") else "html"
        )
        if asked == "json":
            return JSONResponse(as_json(drift, service.model.version))
        html = render(drift, service.model.version)
        return HTMLResponse(html, headers={"Content-Security-Policy": MONITORING_POLICY})

    @app.get("/example", responses=of_kind("image/jpeg") | responses(404), summary="A picture")
    def example() -> Response:
        if not service.model.example.is_file():
            return problem(404, "This model has no example.")
        return FileResponse(service.model.example, media_type="image/jpeg")

    app.include_router(page.router)
    routes = {route.path for route in app.routes if hasattr(route, "path")}
    door = Door(app, settings, UPLOADS, metrics.INSIDE.set)
    return Counted(door, routes)


async def on_refusal(request: Request, error: RefusedError) -> JSONResponse:
    """Say why there is no answer."""
    return problem(error.status, str(error), RETRY if error.status == 503 else None)


def count(answer: dict[str, Any]) -> None:
    """Count a prediction."""
    best = answer["top"][0]
    metrics.PREDICTIONS.labels(best["class"]).inc()
    metrics.CONFIDENCE.observe(best["probability"])


class Counted:
    """Counts and times requests by route; what is no route is counted as one."""

    def __init__(self, app: ASGIApp, routes: set[str]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            path = scope["path"]
            route = path if path in self._routes else "other"
            metrics.REQUESTS.labels(route, str(status)).inc()
            metrics.LATENCY.labels(route).observe(time.perf_counter() - started)
