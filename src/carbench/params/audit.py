"""`audit:` - what counts as the same picture (stage audit)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from carbench.params.base import Section


class AuditParams(Section):
    """Two pictures are near duplicates if hashes *and* aligned edges agree."""

    max_distance: Annotated[int, Field(ge=0, le=32)]
    min_correlation: Annotated[float, Field(ge=0, le=1)]
    min_centre_correlation: Annotated[float, Field(ge=0, le=1)]
    mirrored: bool
    shown_groups: Annotated[int, Field(ge=1, le=200)]
