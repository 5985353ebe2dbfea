"""`pack:` - the size to which all images are resized (stage pack)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from carbench.core.params import Section


class PackParams(Section):
    """Size of the packed images, and how they are fitted to a square."""

    size: Annotated[int, Field(ge=16, le=1024)]
    fit: Literal["squash", "crop", "pad"]
