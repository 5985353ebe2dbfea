"""`audit:` - which images count as duplicates (stage audit)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from carbench.core.params import Section

Agreement = Annotated[float, Field(ge=0, le=1)]


class AuditParams(Section):
    """Candidates with similar HOG descriptors are near duplicates if their edges agree."""

    neighbours: Annotated[int, Field(ge=1, le=100)]
    min_agreement: Agreement
    min_centre_agreement: Agreement
    min_doubtful_agreement: Agreement
    mirrored: bool
    reviewed: Annotated[str, Field(min_length=1)]
    shown_groups: Annotated[int, Field(ge=1, le=200)]

    @model_validator(mode="after")
    def _doubtful_below_found(self) -> AuditParams:
        if self.min_doubtful_agreement > self.min_agreement:
            raise ValueError("min_doubtful_agreement is above min_agreement: lower it")
        return self
