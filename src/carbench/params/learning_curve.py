"""`learning_curve:` - accuracy by training set size (stages draw, subset, learning_curve)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from carbench.params.intervals import IntervalSection


class LearningCurveParams(IntervalSection):
    """Fractions of the training set, and the extent of the extrapolation."""

    fractions: list[Annotated[float, Field(ge=0.01, lt=1)]]
    seeds: list[Annotated[int, Field(ge=0)]]
    draw_seed: Annotated[int, Field(ge=0)]
    factor: Annotated[float, Field(gt=1, le=10)]

    @model_validator(mode="after")
    def _a_curve(self) -> LearningCurveParams:
        for name in ("fractions", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"expected each of {name} once, not {values}")
        if self.fractions and not self.seeds:
            raise ValueError("fractions need at least one seed in seeds")
        return self
