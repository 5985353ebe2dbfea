"""The service's routes. A worker process makes one app by :func:`create_app`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, File, Query, Request, UploadFile
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
    on_bug,
    on_http_exception,
    on_invalid_request,
    problem,
    responses,
)
from carbench.serve.service import RefusedError, Service
from carbench.serve.settings import Settings, handed_over

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
    app.add_exception_handler(Exception, on_bug)

    async def in_turn(work: Callable[..., Result], *args: Any) -> Result:
        """Do work in a thread, when it is this request's turn."""
        try:
            await asyncio.wait_for(turns.acquire(), settings.patience)
        except TimeoutError:
            raise HTTPException(503, BUSY, RETRY) from None
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, work, *args)
        finally:
            turns.release()

    @app.post(
        "/predict",
        response_model=Prediction,
        responses=responses(400, 408, 413, 415, 422, 503),
        summary="What a picture shows",
    )
    async def predict(
        image: Annotated[UploadFile, File(description="a picture's file")],
    ) -> Response:
        started = time.perf_counter()
        content = await image.read()
        try:
            answer = await in_turn(service.answer, content, started)
        except RefusedError as refused:
            return refusal(refused)
        count(answer)
        return JSONResponse(answer)

    @app.post(
        "/predict_batch",
        response_model=BatchAnswer,
        responses=responses(400, 408, 413, 415, 422, 503),
        summary="What several pictures show",
    )
    async def predict_batch(
        images: Annotated[
            list[UploadFile],
            File(description="files of pictures, each in a field of this name"),
        ],
    ) -> Response:
        started = time.perf_counter()
        if len(images) > settings.most_pictures:
            sentence = f"At most {settings.most_pictures} pictures are taken at a time."
            return problem(413, sentence)
        contents = [await image.read() for image in images]
        try:
            answers = await in_turn(service.answer_all, contents, started)
        except RefusedError as refused:
            return refusal(refused)
        entries = []
        for answer in answers:
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

    @app.get("/metrics", response_class=Response, summary="For Prometheus")
    def prometheus() -> Response:
        monitor.look()
        return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE_LATEST)

    @app.get("/monitoring", response_class=HTMLResponse, summary="Whether pictures have changed")
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

    @app.get("/example", response_class=FileResponse, responses=responses(404))
    def example() -> Response:
        if not service.model.example.is_file():
            return problem(404, "This model has no example.")
        return FileResponse(service.model.example, media_type="image/jpeg")

    app.include_router(page.router)
    routes = {route.path for route in app.routes if hasattr(route, "path")}
    door = Door(app, settings, UPLOADS, metrics.INSIDE.set)
    return Counted(door, routes)


def refusal(refused: RefusedError) -> JSONResponse:
    """Return a response that says why there is no answer."""
    return problem(refused.status, str(refused), RETRY if refused.status == 503 else None)


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
