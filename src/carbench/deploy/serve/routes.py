"""The routes of the API, below ``/v1`` and without it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
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
from carbench.deploy.serve.schemas import (
    BatchPrediction,
    ClassList,
    DriftReport,
    HealthStatus,
    Prediction,
)
from carbench.deploy.serve.service import PredictionService
from carbench.deploy.serve.uploads import image_body_schema, read_images

Result = TypeVar("Result")
log = logging.getLogger("carbench")
MONITORING_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
REFUSALS = problem_responses(400, 401, 403, 408, 413, 415, 421, 422, 431, 503)
PAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {"schema": {"type": "string"}}}}
}
TopK = Annotated[int, Query(ge=1, le=1000, description="classes in `top`, at most")]


def prediction_routes(service: PredictionService, receiving: BodyReceiver) -> APIRouter:
    """Return the routes that have a version in their path."""
    router = APIRouter(tags=["model"])

    @router.post(
        "/predict",
        response_model=Prediction,
        responses=REFUSALS,
        openapi_extra=image_body_schema("image", many=False),
        summary="What an image shows",
    )
    async def predict(request: Request, top_k: TopK = 3) -> Response:
        started = time.perf_counter()
        async with (
            read_images(request, receiving, "image", 1) as contents,
            _admit_request(service) as to,
        ):
            answer = await _unless_left(request, service.predict(contents[0], to))
        return JSONResponse(_finished(answer, top_k, started))

    @router.post(
        "/predict_batch",
        response_model=BatchPrediction,
        responses=REFUSALS,
        openapi_extra=image_body_schema("images", many=True),
        summary="What several images show",
    )
    async def predict_batch(request: Request, top_k: TopK = 3) -> Response:
        started = time.perf_counter()
        most = service.settings.max_batch_images
        async with (
            read_images(request, receiving, "images", most) as contents,
            _admit_request(service) as to,
        ):
            answers = await _unless_left(request, service.predict_batch(contents, to))
        entries = [
            Problem.of(answer.status, str(answer)).model_dump()
            if isinstance(answer, RejectedRequestError)
            else _finished(answer, top_k, started)
            for answer in answers
        ]
        return JSONResponse({"predictions": entries})

    @router.get("/classes", summary="The classes that the model knows")
    async def classes() -> ClassList:
        return ClassList(classes=service.bundle.model.classes)

    @router.get(
        "/model",
        response_model_exclude_unset=True,
        summary="What the model is, how good, and from what",
    )
    async def model() -> ModelMetadata:
        return service.bundle.model.metadata

    return router


def operation_routes(service: PredictionService, state: dict[str, bool]) -> APIRouter:
    """Return the routes for those who run the service.

    Args:
        service: what is run.
        state: whether the model has answered once, as ``ready``.
    """
    router = APIRouter(tags=["operation"])

    @router.get("/livez", summary="Whether the process is alive")
    async def livez() -> HealthStatus:
        return HealthStatus(status="alive")

    @router.get(
        "/readyz",
        response_model=HealthStatus,
        responses=problem_responses(503),
        summary="Whether the model has answered once and predictions can be recorded",
    )
    async def readyz() -> Response:
        if not state["ready"]:
            return problem_response(503, "The model has not answered yet.", RETRY_HEADERS)
        failure = await service.log_failure()
        if failure is not None:
            return problem_response(
                503, f"Predictions cannot be recorded: {failure}.", RETRY_HEADERS
            )
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", responses=raw_response("text/plain"), summary="For Prometheus")
    async def prometheus() -> Response:
        # Of what is known: neither the log is read nor a test made.
        current = metrics.ModelCollector(service.bundle.model.version, *service.monitor.latest())
        return Response(metrics.exposition(current), media_type=metrics.CONTENT_TYPE_LATEST)

    comparison: asyncio.Task[Any] | None = None

    @router.get(
        "/monitoring",
        response_model=DriftReport,
        responses=PAGE | problem_responses(422, 503),
        summary="Whether images have changed, and by how much",
    )
    async def monitoring(
        request: Request,
        form: Annotated[Literal["html", "json"] | None, Query(alias="format")] = None,
    ) -> Response:
        nonlocal comparison
        monitor, version = service.monitor, service.bundle.model.version
        if comparison is None or comparison.done():  # those who ask at a time share one
            comparison = asyncio.create_task(asyncio.to_thread(monitor.refresh))
        try:
            drift = await asyncio.shield(comparison)
        except CarbenchError as error:
            log.error("%s", error)
            sentence = "Images could not be compared; the service's own output says why."
            return problem_response(503, sentence, RETRY_HEADERS)
        asked = form or (
            "json" if "application/json" in request.headers.get("accept", "") else "html"
        )
        if asked == "json":
            return JSONResponse(drift_json(drift, version))
        html = await asyncio.to_thread(render_report, drift, version)
        return HTMLResponse(html, headers={"Content-Security-Policy": MONITORING_POLICY})

    @router.get(
        "/example",
        responses=raw_response("image/jpeg") | problem_responses(404),
        summary="An image",
    )
    async def example() -> Response:
        content = service.bundle.example
        if content is None:
            return problem_response(404, "This model has no example.")
        return Response(content, media_type="image/jpeg")

    return router


class _admit_request:  # noqa: N801  a context manager, used as a function
    """Let a request in, and keep the gauge."""

    def __init__(self, service: PredictionService) -> None:
        self._service = service
        self._admitted = service.admit()

    async def __aenter__(self) -> float:
        deadline = await self._admitted.__aenter__()
        metrics.IN_PROGRESS.set(self._service.in_progress)
        return deadline

    async def __aexit__(self, *error: Any) -> None:
        try:
            await self._admitted.__aexit__(*error)
        finally:
            metrics.IN_PROGRESS.set(self._service.in_progress)


async def _unless_left(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of work; cancel it when the client leaves.

    Raises:
        ClientDisconnect: the client left.
    """

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.create_task(work), asyncio.create_task(left())
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()


def _finished(answer: dict[str, Any], top_k: int, started: float) -> dict[str, Any]:
    """Return an answer with its most probable classes and total time, counted in the metrics."""
    ranked = answer["ranked"]
    best, probability = ranked[0]
    metrics.PREDICTIONS.labels(best).inc()
    metrics.CONFIDENCE.observe(probability)
    if answer["sure"] is False:
        metrics.UNSURE.inc()
    top = [{"class": name, "probability": share} for name, share in ranked[:top_k]]
    answer["milliseconds"]["total"] = round(1000 * (time.perf_counter() - started), 3)
    return {"id": answer["id"], "model": answer["model"], "top": top} | {
        key: value for key, value in answer.items() if key != "ranked"
    }
