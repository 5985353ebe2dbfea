"""`export:` - which model is deployed, and in which forms (stage export)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from carbench.core.params import Section

# The backbone that stage choose has chosen, and the best of its seeds.
CHOSEN, BEST = "chosen", "best"


class ExportParams(Section):
    """The training that is exported, and what its ONNX form must keep."""

    backbone: str
    seed: Literal["best"] | Annotated[int, Field(ge=0)]
    tolerance: Annotated[float, Field(gt=0, lt=1)]
    int8: bool
    batch_size: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)]
