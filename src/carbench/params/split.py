"""`split:` - which images train, choose and judge (stage split)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from carbench.core.params import Section

OpenFraction = Annotated[float, Field(gt=0, lt=1)]


class SplitParams(Section):
    """How duplicate groups are dealt to train, val and test."""

    method: Literal["grouped", "published", "kfold"]
    val: OpenFraction
    test: OpenFraction
    folds: Annotated[int, Field(ge=3)]
    repeats: Annotated[int, Field(ge=1, le=100)]
    conflicts: Literal["drop", "majority", "keep"]
    seed: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _leaves_some_for_training(self) -> SplitParams:
        if self.val + self.test >= 1:
            raise ValueError("val + test must leave a part for train (below 1)")
        if self.method == "kfold" and self.repeats > 1:
            raise ValueError("repeats deal published and grouped splits anew; kfold needs 1")
        return self

    @property
    def rotates(self) -> bool:
        """Whether an image that tests one training may teach or choose another."""
        return self.method == "kfold" or (self.method == "grouped" and self.repeats > 1)

    @property
    def rotation(self) -> str:
        """The key that makes it so, and its value."""
        if self.method == "kfold":
            return "split.method: kfold"
        return f"split.method: grouped and split.repeats: {self.repeats}"
