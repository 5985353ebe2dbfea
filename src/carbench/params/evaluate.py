"""`evaluate:` - prediction of the test images (stage evaluate)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from carbench.params.compute import ComputeSection

Corruption = Literal["blur", "jpeg", "dark", "crop", "mirror"]
Slice = Literal["size", "class"]


def _each_once(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("expected each name once")
    return names


class EvaluateParams(ComputeSection):
    """Prediction, bins of the calibration error, corruptions, slices and explanations."""

    calibration_bins: Annotated[int, Field(ge=2, le=100)]
    corruptions: Annotated[list[Corruption], AfterValidator(_each_once)]
    slices: Annotated[list[Slice], AfterValidator(_each_once)]
    explanations: Annotated[int, Field(ge=0, le=100)]
