"""`report:` - what the page shows (stage report)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from carbench.params.base import Section


class ReportParams(Section):
    """Title and how many pictures of each kind."""

    title: Annotated[str, Field(min_length=1)]
    duplicate_pairs: Annotated[int, Field(ge=0, le=100)]
    mistakes: Annotated[int, Field(ge=0, le=100)]
