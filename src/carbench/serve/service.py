"""From the bytes of a picture to a logged answer: what a worker's threads do."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carbench.deployed.classifier import Classifier
from carbench.images import (
    FORMATS,
    BadPictureError,
    NotAPictureError,
    PictureFacts,
    TooManyPixelsError,
    shrink,
)
from carbench.pictures.statistics import image_statistics
from carbench.serve.log import PredictionLog, Record, new_id
from carbench.serve.settings import Settings

TOP = 3
ANIMATED = "The file holds several pictures; the first was looked at."


class RefusedError(Exception):
    """No answer, with the HTTP status and a sentence that say why."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Shrunk:
    """A picture as the model is shown it."""

    content: bytes
    pixels: NDArray[np.uint8]
    facts: PictureFacts
    milliseconds: float


class Service:
    """A model, and the log of what it said; any thread may ask.

    Raises:
        CarbenchError: the model or the log cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.classifier = Classifier(settings.model, int8=settings.int8)
        self.model = self.classifier.model
        PredictionLog(settings.log).close()  # refused now, not with the first picture
        self._local = threading.local()

    def warm_up(self) -> None:
        """Answer once, without logging it."""
        size = self.model.size
        pixels = np.zeros((1, size, size, 3), np.uint8)
        if self.model.example.is_file():
            pixels = self._shrink(self.model.example.read_bytes()).pixels[None]
        self.classifier.predict(pixels)

    def answer(self, content: bytes, started: float) -> dict[str, Any]:
        """Return the answer for a picture's file, logged.

        Args:
            content: the file.
            started: when the request came in, of :func:`time.perf_counter`.

        Raises:
            RefusedError: there is none.
        """
        return self._predict([self._shrink(content)], started)[0]

    def answer_all(
        self, contents: list[bytes], started: float
    ) -> list[dict[str, Any] | RefusedError]:
        """Return an answer for each file, or why there is none, in their order."""
        shrunk: list[Shrunk | RefusedError] = []
        for content in contents:
            try:
                shrunk.append(self._shrink(content))
            except RefusedError as refused:
                shrunk.append(refused)
        whole = [each for each in shrunk if isinstance(each, Shrunk)]
        answers = iter(self._predict(whole, started) if whole else [])
        return [each if isinstance(each, RefusedError) else next(answers) for each in shrunk]

    def _shrink(self, content: bytes) -> Shrunk:
        started = time.perf_counter()
        try:
            picture, facts = shrink(
                content, self.model.size, self.model.fit, self.settings.most_pixels
            )
        except NotAPictureError:
            formats = ", ".join(FORMATS)
            raise RefusedError(
                415, f"The file is not a picture of a kind that is read here: {formats}."
            ) from None
        except TooManyPixelsError:
            most = self.settings.most_pixels / 1e6
            raise RefusedError(
                413, f"The picture has too many pixels: at most {most:g} million are decoded."
            ) from None
        except BadPictureError as error:
            raise RefusedError(422, f"The picture cannot be decoded: {error}.") from None
        return Shrunk(content, np.asarray(picture), facts, _since(started))

    def _predict(self, shrunk: list[Shrunk], started: float) -> list[dict[str, Any]]:
        pixels = np.stack([each.pixels for each in shrunk])
        began = time.perf_counter()
        probabilities, embeddings = self.classifier.predict(pixels)
        model_ms = _since(began)
        statistics = image_statistics(pixels)
        classes, version, now = self.model.classes, self.model.version, time.time()
        records: list[Record] = []
        answers: list[dict[str, Any]] = []
        for row, each in enumerate(shrunk):
            order = np.argsort(-probabilities[row], kind="stable")[:TOP].tolist()
            top = [(classes[index], round(float(probabilities[row, index]), 6)) for index in order]
            records.append(
                Record(
                    id=new_id(),
                    time=now,
                    model=version,
                    sha256=hashlib.sha256(each.content).hexdigest(),
                    top=top,
                    predicted=order[0],
                    confidence=float(probabilities[row, order[0]]),
                    statistics={name: float(all_[row]) for name, all_ in statistics.items()},
                    embedding=embeddings[row].tobytes(),
                    picture=each.content if self.settings.keep_pictures else None,
                )
            )
            answers.append(
                {
                    "id": records[-1].id,
                    "model": version,
                    "top": [{"class": name, "probability": share} for name, share in top],
                    "picture": {
                        "format": each.facts.format,
                        "width": each.facts.width,
                        "height": each.facts.height,
                    },
                    "notes": [ANIMATED] if each.facts.animated else [],
                    "milliseconds": {"decode": each.milliseconds, "model": model_ms},
                }
            )
        try:
            self._log.append(records)
        except sqlite3.Error as error:
            raise RefusedError(
                503, f"The prediction could not be logged, and is therefore not given: {error}."
            ) from None
        for answer in answers:
            answer["milliseconds"]["total"] = _since(started)
        return answers

    @property
    def _log(self) -> PredictionLog:
        """This thread's own connection: SQLite locks between them as between processes."""
        if not hasattr(self._local, "log"):
            self._local.log = PredictionLog(self.settings.log)
        log: PredictionLog = self._local.log
        return log


def _since(started: float) -> float:
    return round(1000 * (time.perf_counter() - started), 3)
