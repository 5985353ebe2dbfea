"""What the service answers, as its OpenAPI description has it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from carbench.serve.problems import Problem

Share = Annotated[float, Field(ge=0, le=1)]


class Guess(BaseModel):
    """A class and its calibrated probability."""

    class_: str = Field(serialization_alias="class")
    probability: Share


class PictureAnswer(BaseModel):
    """What the picture's file says of itself; pixels as stored, before it was turned upright."""

    format: str
    width: int
    height: int


class Milliseconds(BaseModel):
    """How long it took: to decode and shrink, to predict, and in all, with waiting and logging."""

    decode: float
    model: float
    total: float


class Prediction(BaseModel):
    """What the model makes of a picture."""

    id: str = Field(description="in the log of predictions")
    model: str = Field(description="the version of the model")
    top: list[Guess] = Field(description="the three likeliest classes, the likeliest first")
    picture: PictureAnswer
    notes: list[str] = Field(description="what to know of how the picture was read")
    milliseconds: Milliseconds


class BatchAnswer(BaseModel):
    """One entry a picture, in their order: what the model makes of it, or why nothing."""

    predictions: list[Prediction | Problem]


class Classes(BaseModel):
    """The classes that the model knows."""

    classes: list[str]


class State(BaseModel):
    """Whether the service is alive, or ready."""

    status: str
