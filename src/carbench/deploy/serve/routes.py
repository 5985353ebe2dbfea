"""Routes of the HTTP API."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.requests import ClientDisconnect

from carbench.core.errors import CarbenchError
from carbench.deploy.bundle.model_metadata import ModelMetadata
from carbench.deploy.drift.report import drift_json, render_report
from carbench.deploy.serve import metrics
from carbench.deploy.serve.problem_details import (
    Problem,
    problem_response,
    problem_responses,
    raw_response,
)
from carbench.deploy.serve.request_bodies import BodyReceiver
from carbench.deploy.serve.request_errors import RETRY_HEADERS, RejectedRequestError
from carbench.deploy.serve.request_images import image_body_schema, read_images
from carbench.deploy.serve.schemas import (
    BatchPrediction,
    ClassList,
    DriftReport,
    HealthStatus,
    Prediction,
)
from carbench.deploy.serve.service import PredictionService

Result = TypeVar("Result")
log = logging.getLogger("carbench")
MONITORING_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
ERROR_RESPONSES = problem_responses(400, 401, 403, 408, 413, 415, 421, 422, 431, 503)
HTML_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {"schema": {"type": "string"}}}}
}
TopK = Annotated[int, Query(ge=1, le=1000, description="maximum number of classes in `top`")]


def prediction_routes(service: PredictionService, receiver: BodyReceiver) -> APIRouter:
    """Return the versioned routes."""
    router = APIRouter(tags=["model"])

    @router.post(
        "/predict",
        response_model=Prediction,
        responses=ERROR_RESPONSES,
        openapi_extra=image_body_schema("image", many=False),
        summary="Classify an image",
    )
    async def predict(request: Request, top_k: TopK = 3) -> Response:
        started = time.perf_counter()
        async with (
            read_images(request, receiver, "image", 1) as contents,
            _admit_request(service) as deadline,
        ):
            response = await _cancel_on_disconnect(request, service.predict(contents[0], deadline))
        return JSONResponse(_complete(response, top_k, started))

    @router.post(
        "/predict_batch",
        response_model=BatchPrediction,
        responses=ERROR_RESPONSES,
        openapi_extra=image_body_schema("images", many=True),
        summary="Classify several images",
    )
    async def predict_batch(request: Request, top_k: TopK = 3) -> Response:
        started = time.perf_counter()
        max_images = service.settings.max_batch_images
        async with (
            read_images(request, receiver, "images", max_images) as contents,
            _admit_request(service) as deadline,
        ):
            responses = await _cancel_on_disconnect(
                request, service.predict_batch(contents, deadline)
            )
        entries = [
            Problem.of(response.status, str(response)).model_dump()
            if isinstance(response, RejectedRequestError)
            else _complete(response, top_k, started)
            for response in responses
        ]
        return JSONResponse({"predictions": entries})

    @router.get("/classes", summary="Classes of the model")
    async def classes() -> ClassList:
        return ClassList(classes=service.bundle.model.classes)

    @router.get(
        "/model",
        response_model_exclude_unset=True,
        summary="Model metadata: evaluation, decision thresholds and provenance",
    )
    async def model() -> ModelMetadata:
        return service.bundle.model.metadata

    return router


def operation_routes(service: PredictionService, state: dict[str, bool]) -> APIRouter:
    """Return the routes for operating the service: health, metrics, monitoring.

    Args:
        service: the service.
        state: ``ready`` is whether the model has made its first prediction.
    """
    router = APIRouter(tags=["operation"])

    @router.get("/livez", summary="Liveness")
    async def livez() -> HealthStatus:
        return HealthStatus(status="alive")

    @router.get(
        "/readyz",
        response_model=HealthStatus,
        responses=problem_responses(503),
        summary="Readiness: the model is loaded and predictions can be recorded",
    )
    async def readyz() -> Response:
        if not state["ready"]:
            return problem_response(503, "The model is still loading.", RETRY_HEADERS)
        failure = await service.log_failure()
        if failure is not None:
            return problem_response(
                503, f"Predictions cannot be recorded: {failure}.", RETRY_HEADERS
            )
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", responses=raw_response("text/plain"), summary="Prometheus metrics")
    async def prometheus() -> Response:
        # Uses the latest drift result; reads no log and runs no tests.
        current = metrics.ModelCollector(service.bundle.model.version, *service.monitor.latest())
        return Response(metrics.exposition(current), media_type=metrics.CONTENT_TYPE_LATEST)

    comparison: asyncio.Task[Any] | None = None

    @router.get(
        "/monitoring",
        response_model=DriftReport,
        responses=HTML_RESPONSE | problem_responses(422, 503),
        summary="Drift report of the newest images",
    )
    async def monitoring(
        request: Request,
        output_format: Annotated[Literal["html", "json"] | None, Query(alias="format")] = None,
    ) -> Response:
        nonlocal comparison
        monitor, version = service.monitor, service.bundle.model.version
        if comparison is None or comparison.done():  # shared by concurrent requests
            comparison = asyncio.create_task(asyncio.to_thread(monitor.refresh))
        try:
            drift = await asyncio.shield(comparison)
        except CarbenchError as error:
            log.error("%s", error)
            message = "Drift detection failed; the output of the service has the reason."
            return problem_response(503, message, RETRY_HEADERS)
        media = output_format or (
            "json" if "application/json" in request.headers.get("accept", "") else "html"
        )
        if media == "json":
            return JSONResponse(drift_json(drift, version))
        html = await asyncio.to_thread(render_report, drift, version)
        return HTMLResponse(html, headers={"Content-Security-Policy": MONITORING_POLICY})

    @router.get(
        "/example",
        responses=raw_response("image/jpeg") | problem_responses(404),
        summary="Example image",
    )
    async def example() -> Response:
        content = service.bundle.example
        if content is None:
            return problem_response(404, "This model has no example image.")
        return Response(content, media_type="image/jpeg")

    return router


@asynccontextmanager
async def _admit_request(service: PredictionService) -> AsyncIterator[float]:
    """Admit a request, and update the gauge of requests in progress; yield the deadline."""
    try:
        async with service.admit() as deadline:
            metrics.IN_PROGRESS.set(service.in_progress)
            yield deadline
    finally:
        metrics.IN_PROGRESS.set(service.in_progress)


async def _cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Await a coroutine; cancel it when the client disconnects.

    Raises:
        ClientDisconnect: the client closed the connection.
    """

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, disconnecting = asyncio.create_task(work), asyncio.create_task(disconnected())
    try:
        await asyncio.wait([working, disconnecting], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, disconnecting):
            task.cancel()


def _complete(response: dict[str, Any], top_k: int, started: float) -> dict[str, Any]:
    """Complete a response with ``top`` and the total time, and update the metrics."""
    ranked = response["ranked"]
    best, probability = ranked[0]
    metrics.PREDICTIONS.labels(best).inc()
    metrics.CONFIDENCE.observe(probability)
    if response["sure"] is False:
        metrics.UNSURE.inc()
    top = [{"class": name, "probability": share} for name, share in ranked[:top_k]]
    response["milliseconds"]["total"] = round(1000 * (time.perf_counter() - started), 3)
    return {"id": response["id"], "model": response["model"], "top": top} | {
        key: value for key, value in response.items() if key != "ranked"
    }
