"""What stages that compute intervals share: how the bootstrap is drawn."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from carbench.params.base import Section


class BootstrapSection(Section):
    """The bootstrap over test groups, and the confidence of what is concluded from it."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    resamples: Annotated[int, Field(ge=100)]
    seed: Annotated[int, Field(ge=0)]
