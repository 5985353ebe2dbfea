"""Response models of the API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from carbench.deploy.serve.problems import Problem

Share = Annotated[float, Field(ge=0, le=1)]


class Guess(BaseModel):
    """A class and its calibrated probability."""

    class_: str = Field(serialization_alias="class")
    probability: Share


class ImageAnswer(BaseModel):
    """What the image file states; pixels as stored, before EXIF orientation is applied."""

    format: str
    width: int
    height: int


class Milliseconds(BaseModel):
    """Times: to decode and resize, to predict, and in all, with waiting and recording."""

    decode: float
    model: float
    total: float


class Prediction(BaseModel):
    """What the model makes of an image."""

    # Made up: it shows in the API's documentation what an answer looks like.
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "18ec26b7ff0a05803d1e8f9b",
                "model": "resnet-0-ede87ae3f70e",
                "top": [
                    {"class": "Saloon", "probability": 0.91},
                    {"class": "Coupe", "probability": 0.06},
                    {"class": "Estate", "probability": 0.02},
                ],
                "sure": True,
                "prediction_set": ["Saloon"],
                "image": {"format": "JPEG", "width": 1280, "height": 853},
                "notes": [],
                "milliseconds": {"decode": 4.1, "model": 2.3, "total": 7.0},
            }
        }
    )

    id: str = Field(description="of the record in the log of predictions")
    model: str = Field(description="the version of the model")
    top: list[Guess] = Field(description="the `top_k` most probable classes, in that order")
    sure: bool | None = Field(
        description="whether the first is probable enough for the error that was wanted of answers "
        "(`calibrate.max_error`); null: none was wanted"
    )
    prediction_set: list[str] | None = Field(
        description="classes that hold the true one as often as wanted (`calibrate.set_coverage`), "
        "the most probable first; null: sets were not wanted"
    )
    image: ImageAnswer
    notes: list[str] = Field(description="what to know about how the image was read")
    milliseconds: Milliseconds


class BatchAnswer(BaseModel):
    """One entry per image, in their order: a prediction, or why there is none."""

    predictions: list[Prediction | Problem]


class Classes(BaseModel):
    """The classes that the model knows."""

    classes: list[str]


class State(BaseModel):
    """Whether the service is alive, or ready."""

    status: str


class DriftTest(BaseModel):
    """What one test has found; see :class:`carbench.deploy.drift.testing.Outcome`."""

    family: Literal["input", "confidence", "classes", "embedding"]
    name: str
    statistic: float
    effect: Share
    p: Share
    p_adjusted: Share
    different: bool
    alarm: bool
    before: dict[str, float]
    after: dict[str, float]


class DriftReport(BaseModel):
    """Whether the newest images differ from the reference, and by how much."""

    model: str
    verdict: Literal["no drift", "different", "drift", "not enough images"]
    alarm: bool | None = Field(description="null: there are not enough images")
    enough: bool
    fewest: int
    images: int
    reference: int
    alpha: float
    min_effect: float
    tests: list[DriftTest]
