"""Typed content of model.json, also used for the API description."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from carbench.data.images.decoding import Fit

Fraction = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Section(BaseModel):
    """Base class that keeps unknown keys, which other versions of carbench may write."""

    model_config = ConfigDict(extra="allow")


class IntervalEstimate(_Section):
    """A value with its confidence interval; ``low`` and ``high`` are null if there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None


class ModelInput(_Section):
    """Input of the ONNX model: side length in pixels, and how images are fitted to it."""

    size: Annotated[int, Field(ge=1, le=4096)]
    fit: Fit


class DecisionThresholds(_Section):
    """Thresholds for confident answers and for prediction sets; null: no target was set."""

    threshold: float | None = None
    set_threshold: float | None = None


class ModelMetadata(_Section):
    """Content of model.json: identity, evaluation and provenance of the model."""

    version: Annotated[str, Field(min_length=1)] = Field(
        description="backbone, seed and first digits of the sha256 of model.onnx"
    )
    classes: Annotated[list[str], Field(min_length=1)] = Field(
        description="class names, in the order of the model output"
    )
    input: ModelInput
    backbone: str | None = None
    seed: int | None = None
    timm: str | None = Field(None, description="name of the model in timm")
    temperature: float | None = Field(None, description="temperature that divides the logits")
    accuracy: IntervalEstimate | None = Field(None, description="accuracy on the clean test images")
    backbone_accuracy: IntervalEstimate | None = Field(
        None, description="mean accuracy of all training runs of the backbone"
    )
    confidence: Fraction | None = Field(None, description="level of the confidence intervals")
    decision: DecisionThresholds = DecisionThresholds()
    parity: dict[str, Any] | None = Field(
        None, description="agreement of the exported and the trained model"
    )
    int8: dict[str, Any] | None = None
    sha256: dict[str, Sha256] = Field(description="sha256 of each exported file")
    training: dict[str, Any] | None = Field(None, description="provenance of the training")
    export: dict[str, Any] | None = Field(None, description="provenance of the export")
