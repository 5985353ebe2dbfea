"""`choose:` - selection of the deployed backbone on val (stage choose)."""

from __future__ import annotations

from math import isclose
from typing import Annotated, Literal

from pydantic import Field, field_validator

from carbench.params.intervals import IntervalSection

Share = Annotated[float, Field(ge=0, le=1)]
DeploymentMix = Literal["tested", "equal"] | dict[str, Share]


class ChooseParams(IntervalSection):
    """The rule for backbones that do not differ significantly on val."""

    deployment_mix: DeploymentMix
    ties: Literal["cheapest", "best"]
    cost: Literal["macs", "parameters", "latency_ms"]
    margin: Annotated[float, Field(ge=0, le=1)]

    @field_validator("deployment_mix")
    @classmethod
    def _is_a_whole(cls, mix: DeploymentMix) -> DeploymentMix:
        if isinstance(mix, dict) and not isclose(sum(mix.values()), 1, abs_tol=1e-6):
            raise ValueError(f"the shares of the classes sum to {sum(mix.values()):.6g}, not to 1")
        return mix
