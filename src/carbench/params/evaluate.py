"""`evaluate:` - how the test pictures are predicted (stage evaluate)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from carbench.params.compute import ComputeSection


class EvaluateParams(ComputeSection):
    """Prediction and the calibration error's bins."""

    calibration_bins: Annotated[int, Field(ge=2, le=100)]
