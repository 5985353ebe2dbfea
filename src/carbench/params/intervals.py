"""The confidence level: shared by the sections of stages with statistical conclusions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from carbench.core.params import Section


class IntervalSection(Section):
    """Base of sections with the confidence level of intervals and tests."""

    confidence: Annotated[float, Field(gt=0.5, le=0.9999)]
