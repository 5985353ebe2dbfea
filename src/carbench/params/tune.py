"""`tune:` - learning-rate search with the same budget for each backbone (stage tune)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from carbench.core.params import Section


class TuneParams(Section):
    """Learning rates to try; if empty, all backbones use `train.lr` or their override."""

    learning_rates: list[Annotated[float, Field(gt=0)]]
    epochs: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]

    @field_validator("learning_rates")
    @classmethod
    def _a_choice(cls, rates: list[float]) -> list[float]:
        if len(rates) == 1 or len(set(rates)) < len(rates):
            raise ValueError(
                "expected two or more different learning rates, or [] to disable tuning"
            )
        return rates
