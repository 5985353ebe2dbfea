"""`pack:` - the one size at which every image is kept (stage pack)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from carbench.core.params import Section


class PackParams(Section):
    """Size and shape of the packed array."""

    size: Annotated[int, Field(ge=16, le=1024)]
    fit: Literal["squash", "crop", "pad"]
