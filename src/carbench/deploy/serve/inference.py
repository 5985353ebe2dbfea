"""Inference in cancellable threads; conversion of predictions to log records and responses."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from carbench.data.images.statistics import image_statistics
from carbench.deploy.bundle.loading import Bundle
from carbench.deploy.serve.decode_pool import DecodedImage
from carbench.deploy.serve.prediction_log import Record, new_id
from carbench.deploy.serve.settings import Settings
from carbench.evaluation.conformal import prediction_sets
from carbench.models.onnx_runtime import onnxruntime

Result = TypeVar("Result")
# Number of most probable classes that are recorded.
TOP_RECORDED = 3
ANIMATED = "The file contains several images; the first one was used."


class InferenceThreads:
    """Thread pool for inference whose running jobs can be stopped."""

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, "inference")
        self._slots = asyncio.Semaphore(count)
        self._running: set[onnxruntime.RunOptions] = set()

    async def run(self, work: Callable[[onnxruntime.RunOptions], Result]) -> Result:
        """Run a function in the next free thread; if cancelled, stop ONNX Runtime in it."""
        await self._slots.acquire()
        options = onnxruntime.RunOptions()
        self._running.add(options)
        try:
            future = asyncio.get_running_loop().run_in_executor(self._executor, work, options)
        except BaseException:
            self._slots.release()
            raise

        def ended(_: object) -> None:
            self._running.discard(options)
            self._slots.release()

        future.add_done_callback(ended)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            options.terminate = True
            # Its exception is not needed.
            future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise

    def close(self) -> None:
        """Stop running jobs and cancel waiting ones."""
        for options in self._running:
            options.terminate = True
        self._executor.shutdown(wait=False, cancel_futures=True)


def predict_images(
    bundle: Bundle, decoded: list[DecodedImage], settings: Settings, options: onnxruntime.RunOptions
) -> list[tuple[Record, dict[str, Any]]]:
    """Return the log record and the response for each image.

    The response has all classes as ``ranked`` instead of ``top``, which depends on the number of
    classes that the client requested.
    """
    pixels = np.stack([each.pixels for each in decoded])
    started = time.perf_counter()
    probabilities, embeddings = bundle.classifier.predict(pixels, options)
    model_ms = round(1000 * (time.perf_counter() - started), 3)
    statistics = image_statistics(pixels)
    model, now = bundle.model, time.time()
    classes, threshold, member = model.classes, model.threshold, model.set_threshold
    confidences = probabilities.max(axis=1)
    sets = None if member is None else prediction_sets(probabilities, member)
    results = []
    for row, each in enumerate(decoded):
        order = np.argsort(-probabilities[row], kind="stable").tolist()
        ranked = [(classes[index], round(float(probabilities[row, index]), 6)) for index in order]
        record = Record(
            id=new_id(),
            time=now,
            model=model.version,
            sha256=hashlib.sha256(each.content).hexdigest(),
            top=ranked[:TOP_RECORDED],
            predicted=order[0],
            confidence=float(confidences[row]),
            statistics={name: float(values[row]) for name, values in statistics.items()},
            embedding=embeddings[row].tobytes(),
            image=each.content if settings.keep_images else None,
        )
        response = {
            "id": record.id,
            "model": model.version,
            "ranked": ranked,
            "sure": None if threshold is None else bool(confidences[row] > threshold),
            "prediction_set": None
            if sets is None
            else [classes[index] for index in order if sets[row, index]],
            "image": {name: each.facts[name] for name in ("format", "width", "height")},
            "notes": [ANIMATED] if each.facts["animated"] else [],
            "milliseconds": {"decode": each.milliseconds, "model": model_ms},
        }
        results.append((record, response))
    return results
