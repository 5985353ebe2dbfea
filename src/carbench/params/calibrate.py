"""`calibrate:` - confidence thresholds and prediction sets, from val (stage calibrate)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from carbench.core.params import Section


class CalibrateParams(Section):
    """Maximum error rate of answers, and coverage of prediction sets; 0 disables each."""

    max_error: Annotated[float, Field(ge=0, lt=1)]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    set_coverage: Annotated[float, Field(ge=0, lt=1)]
