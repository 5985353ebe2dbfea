"""`cost:` - how latency, throughput and memory are measured (stage cost)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from carbench.params.compute import ComputeSection


class CostParams(ComputeSection):
    """Rounds and runtimes, for 1 and ``threads`` threads and for 1 and ``batch_size`` images."""

    rounds: Annotated[int, Field(ge=3)]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    int8: bool
    seed: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _rounds_suffice(self) -> CostParams:
        """Require enough rounds for a distribution-free confidence interval of the median."""
        if 2 * 0.5**self.rounds > 1 - self.confidence:
            raise ValueError(
                f"{self.rounds} rounds are too few for an interval of {100 * self.confidence:g} %: "
                "use more rounds, or a lower confidence"
            )
        return self
