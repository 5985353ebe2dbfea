"""`aggregate:` - how the intervals are computed (stage aggregate)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from carbench.params.base import Section


class AggregateParams(Section):
    """The bootstrap over seeds and test groups."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    resamples: Annotated[int, Field(ge=100)]
    seed: Annotated[int, Field(ge=0)]
