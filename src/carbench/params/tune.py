"""`tune:` - the equal small budget in which each backbone finds its learning rate (stage tune)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from carbench.core.params import Section


class TuneParams(Section):
    """The rates that every backbone tries; none: all keep `train.lr`, or their own."""

    learning_rates: list[Annotated[float, Field(gt=0)]]
    epochs: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]

    @field_validator("learning_rates")
    @classmethod
    def _a_choice(cls, rates: list[float]) -> list[float]:
        if len(rates) == 1 or len(set(rates)) < len(rates):
            raise ValueError("expected two or more different rates, or [] to tune nothing")
        return rates
