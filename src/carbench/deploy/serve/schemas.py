"""Response models of the API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from carbench.deploy.serve.problem_details import Problem

Fraction = Annotated[float, Field(ge=0, le=1)]


class ClassProbability(BaseModel):
    """A class and its calibrated probability."""

    class_: str = Field(serialization_alias="class")
    probability: Fraction


class ImageProperties(BaseModel):
    """Properties of the image file; size in pixels, before EXIF orientation is applied."""

    format: str
    width: int
    height: int


class Timings(BaseModel):
    """Time to decode and resize, to predict, and in total (including queueing and logging)."""

    decode: float
    model: float
    total: float


class Prediction(BaseModel):
    """The prediction for one image."""

    # Invented values, shown as an example in the API documentation.
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

    id: str = Field(description="id of the record in the prediction log")
    model: str = Field(description="version of the model")
    top: list[ClassProbability] = Field(
        description="the `top_k` most probable classes, most probable first"
    )
    sure: bool | None = Field(
        description="whether the confidence is above the threshold for the target error rate "
        "(`calibrate.max_error`); null: no target was set"
    )
    prediction_set: list[str] | None = Field(
        description="classes that contain the true one with the target coverage "
        "(`calibrate.set_coverage`), most probable first; null: no target was set"
    )
    image: ImageProperties
    notes: list[str] = Field(description="remarks on how the image was read")
    milliseconds: Timings


class BatchPrediction(BaseModel):
    """One entry per image, in request order: a prediction, or the reason why there is none."""

    predictions: list[Prediction | Problem]


class ClassList(BaseModel):
    """The classes of the model."""

    classes: list[str]


class HealthStatus(BaseModel):
    """Result of a liveness or readiness check."""

    status: str


class DriftTestResult(BaseModel):
    """Result of one two-sample test.

    See :class:`carbench.deploy.drift.two_sample_tests.TwoSampleResult`.
    """

    family: Literal["input", "confidence", "classes", "embedding"]
    name: str
    statistic: float
    effect: Fraction
    p: Fraction
    p_adjusted: Fraction
    different: bool
    alarm: bool
    before: dict[str, float]
    after: dict[str, float]


class DriftReport(BaseModel):
    """Whether, and by how much, the newest images differ from the reference."""

    model: str
    verdict: Literal["no drift", "different", "drift", "not enough images"]
    alarm: bool | None = Field(description="null: not enough images")
    enough: bool
    fewest: int
    images: int
    reference: int
    alpha: float
    min_effect: float
    tests: list[DriftTestResult]
