"""`report:` - contents of the report (stage report)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from carbench.core.params import Section


class ReportParams(Section):
    """Title, numbers of example images, and the price of one core hour (0: unknown)."""

    title: Annotated[str, Field(min_length=1)]
    duplicate_pairs: Annotated[int, Field(ge=0, le=100)]
    price_per_core_hour: Annotated[float, Field(ge=0)]
    mistakes: Annotated[int, Field(ge=0, le=100)]
    label_errors: Annotated[int, Field(ge=0, le=100)]
