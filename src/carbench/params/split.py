"""`split:` - assignment of images to train, val and test (stage split)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from carbench.core.params import Section

OpenFraction = Annotated[float, Field(gt=0, lt=1)]


class SplitParams(Section):
    """Assignment of duplicate groups to train, val and test."""

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
            raise ValueError("val + test must be below 1, to leave images for train")
        if self.method == "kfold" and self.repeats > 1:
            raise ValueError("repeats are for published and grouped splits; kfold needs 1")
        return self

    @property
    def reuses_test_images(self) -> bool:
        """Whether a test image of one run may be a training or val image of another."""
        return self.method == "kfold" or (self.method == "grouped" and self.repeats > 1)

    @property
    def reuse_setting(self) -> str:
        """The setting that causes this, as key and value."""
        if self.method == "kfold":
            return "split.method: kfold"
        return f"split.method: grouped and split.repeats: {self.repeats}"
