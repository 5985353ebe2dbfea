"""Device, threads and batch size: shared by the sections of stages that use torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from carbench.core.params import Section


class ComputeSection(Section):
    """Base of the sections of stages that run models."""

    device: Literal["cpu", "cuda"]
    threads: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
