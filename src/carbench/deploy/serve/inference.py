"""Predicting in threads that can be stopped, and recording what was predicted."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import onnxruntime

from carbench.data.images.statistics import image_statistics
from carbench.deploy.bundle.loading import Bundle
from carbench.deploy.serve.decoding import Shrunk
from carbench.deploy.serve.log import Record, new_id
from carbench.deploy.serve.settings import Settings
from carbench.evaluation.conformal import prediction_sets

Result = TypeVar("Result")
# Classes of a prediction that are recorded.
RECORDED = 3
ANIMATED = "The file holds several images; the first was used."


class Threads:
    """Threads for what blocks, a turn after the other; what is not needed any more is stopped."""

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, "inference")
        self._turns = asyncio.Semaphore(count)
        self._running: set[onnxruntime.RunOptions] = set()

    async def run(self, work: Callable[[onnxruntime.RunOptions], Result]) -> Result:
        """Do work in a thread, when it is its turn; if cancelled, stop ONNX Runtime in it."""
        await self._turns.acquire()
        options = onnxruntime.RunOptions()
        self._running.add(options)
        try:
            future = asyncio.get_running_loop().run_in_executor(self._executor, work, options)
        except BaseException:
            self._turns.release()
            raise

        def ended(_: object) -> None:
            self._running.discard(options)
            self._turns.release()

        future.add_done_callback(ended)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            options.terminate = True
            # Nobody will ask for what it raises.
            future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise

    def close(self) -> None:
        """Stop what is running, and begin nothing."""
        for options in self._running:
            options.terminate = True
        self._executor.shutdown(wait=False, cancel_futures=True)


def predict(
    bundle: Bundle, shrunk: list[Shrunk], settings: Settings, options: onnxruntime.RunOptions
) -> list[tuple[Record, dict[str, Any]]]:
    """Return for each image what is recorded and what is answered.

    The answer lacks ``top``, which depends on how many classes were asked for; it has all of them
    as ``ranked``.
    """
    pixels = np.stack([each.pixels for each in shrunk])
    began = time.perf_counter()
    probabilities, embeddings = bundle.classifier.predict(pixels, options)
    model_ms = round(1000 * (time.perf_counter() - began), 3)
    statistics = image_statistics(pixels)
    model, now = bundle.model, time.time()
    classes, threshold, member = model.classes, model.threshold, model.set_threshold
    confidences = probabilities.max(axis=1)
    sets = None if member is None else prediction_sets(probabilities, member)
    found = []
    for row, each in enumerate(shrunk):
        order = np.argsort(-probabilities[row], kind="stable").tolist()
        ranked = [(classes[index], round(float(probabilities[row, index]), 6)) for index in order]
        record = Record(
            id=new_id(),
            time=now,
            model=model.version,
            sha256=hashlib.sha256(each.content).hexdigest(),
            top=ranked[:RECORDED],
            predicted=order[0],
            confidence=float(confidences[row]),
            statistics={name: float(all_[row]) for name, all_ in statistics.items()},
            embedding=embeddings[row].tobytes(),
            image=each.content if settings.keep_images else None,
        )
        answer = {
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
        found.append((record, answer))
    return found
