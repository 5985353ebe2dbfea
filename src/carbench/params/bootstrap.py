"""What stages that compute intervals share: how the bootstrap is drawn."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from carbench.params.base import Section


class BootstrapSection(Section):
    """The bootstrap over duplicate groups, and the confidence of what is concluded from it."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    resamples: Annotated[int, Field(ge=100)]
    seed: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _can_find_something_that_rare(self) -> BootstrapSection:
        # The smallest p-value that the resamples can give.
        if 1 / (self.resamples + 1) > 1 - self.confidence:
            raise ValueError("this confidence needs more resamples: 1 / (1 - confidence) or more")
        return self
