"""`shortlist:` - selection of screened candidates for training (stage shortlist)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from carbench.params.intervals import IntervalSection


class ShortlistParams(IntervalSection):
    """The rule that selects the backbones for `carbench shortlist`."""

    size: Annotated[int, Field(ge=1)]
    margin: Annotated[float, Field(ge=0, le=1)]
    prefer: Literal["accurate", "cheap"]
    per_family: Annotated[int, Field(ge=0)]
