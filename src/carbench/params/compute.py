"""Where a stage computes: shared by the sections of the stages that use torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from carbench.core.params import Section


class ComputeSection(Section):
    """A section of a stage that runs models."""

    device: Literal["cpu", "cuda"]
    threads: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
