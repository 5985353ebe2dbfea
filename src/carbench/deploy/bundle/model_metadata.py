"""What model.json holds, with types: for those who read it, and for the API's description."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from carbench.data.images.decoding import Fit

Fraction = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Section(BaseModel):
    """Keys that are not described here are kept: other versions of carbench write others."""

    model_config = ConfigDict(extra="allow")


class IntervalEstimate(_Section):
    """A value with its confidence interval; ``low`` and ``high`` are null where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None


class ModelInput(_Section):
    """The images that the ONNX model takes: their side in pixels, and how one is brought to it."""

    size: Annotated[int, Field(ge=1, le=4096)]
    fit: Fit


class DecisionThresholds(_Section):
    """The thresholds of sure answers and of prediction sets; null: they were not wanted."""

    threshold: float | None = None
    set_threshold: float | None = None


class ModelMetadata(_Section):
    """What the model is, how good, and from what: the content of model.json."""

    version: Annotated[str, Field(min_length=1)] = Field(
        description="backbone, seed and the beginning of the sha256 of model.onnx"
    )
    classes: Annotated[list[str], Field(min_length=1)] = Field(
        description="in the order of the model's output"
    )
    input: ModelInput
    backbone: str | None = None
    seed: int | None = None
    timm: str | None = Field(None, description="the model's name in timm")
    temperature: float | None = Field(None, description="divides the logits")
    accuracy: IntervalEstimate | None = Field(None, description="on the clean test images")
    backbone_accuracy: IntervalEstimate | None = Field(
        None, description="mean of all its trainings"
    )
    confidence: Fraction | None = Field(None, description="level of the confidence intervals")
    decision: DecisionThresholds = DecisionThresholds()
    parity: dict[str, Any] | None = Field(None, description="exported model and trained one")
    int8: dict[str, Any] | None = None
    sha256: dict[str, Sha256] = Field(description="of the files of the exported folder")
    training: dict[str, Any] | None = Field(None, description="provenance of the training")
    export: dict[str, Any] | None = Field(None, description="provenance of the export")
