"""`cost:` - how latency, throughput and memory are measured (stage cost)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from carbench.params.compute import ComputeSection


class CostParams(ComputeSection):
    """Repeats of the measurements; ``batch_size`` is that of the throughput."""

    repeats: Annotated[int, Field(ge=3)]
