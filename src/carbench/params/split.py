"""`split:` - which pictures train, choose and judge (stage split)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from carbench.params.base import Section

OpenFraction = Annotated[float, Field(gt=0, lt=1)]


class SplitParams(Section):
    """How duplicate groups are dealt to train, val and test."""

    method: Literal["grouped", "published", "kfold"]
    val: OpenFraction
    test: OpenFraction
    folds: Annotated[int, Field(ge=3)]
    conflicts: Literal["drop", "majority", "keep"]
    seed: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _leaves_some_for_training(self) -> SplitParams:
        if self.val + self.test >= 1:
            raise ValueError("val + test must leave a part for train (below 1)")
        return self
