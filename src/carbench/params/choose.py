"""`choose:` - which backbone is deployed, decided on val (stage choose)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from carbench.params.bootstrap import BootstrapSection


class ChooseParams(BootstrapSection):
    """The rule for backbones that val hardly tells apart."""

    ties: Literal["cheapest", "best"]
    cost: Literal["macs", "parameters", "latency_ms"]
    margin: Annotated[float, Field(ge=0, le=1)]
