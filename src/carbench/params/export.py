"""`export:` - the exported model and its formats (stage export)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from carbench.core.params import Section

# The backbone selected by stage choose, and the best of its seeds.
CHOSEN, BEST = "chosen", "best"


class ExportParams(Section):
    """The exported training run, and the tolerance of its ONNX form."""

    backbone: str
    seed: Literal["best"] | Annotated[int, Field(ge=0)]
    tolerance: Annotated[float, Field(gt=0, lt=1)]
    int8: bool
    batch_size: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)]
