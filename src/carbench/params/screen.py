"""`screen:` - linear probes of many timm models (stage screen)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from carbench.core.params import Section
from carbench.params.compute import ComputeSection

NotNegative = Annotated[float, Field(ge=0)]
# The status of a screened candidate; any other status is the reason why it was not.
SCREENED = "screened"
Patterns = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=1000)]


class LimitParams(Section):
    """Limits on cost and licence of candidates; 0 or an empty list is no limit."""

    random_starts: bool
    parameters: NotNegative
    macs: NotNegative
    latency_ms: NotNegative
    licenses: list[str]
    minutes: NotNegative


class FeatureParams(ComputeSection):
    """Feature extraction, once per candidate, from training images."""

    image_size: Annotated[int, Field(ge=16, le=1024)]
    images: Annotated[int, Field(ge=0)]
    precision: Literal["auto", "float32", "bfloat16"]
    seed: Annotated[int, Field(ge=0)]
    keep_weights: bool
    cache_gb: NotNegative


class ProbeParams(Section):
    """Evaluation of the features by probes."""

    folds: Annotated[int, Field(ge=2, le=20)]
    neighbours: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]


class ScreenParams(Section):
    """The whole section. Each pool of name patterns in ``candidates`` is one job."""

    candidates: Annotated[dict[str, Patterns], Field(min_length=1)]
    weights: Annotated[str, Field(min_length=1)]
    limits: LimitParams
    features: FeatureParams
    probe: ProbeParams

    @field_validator("candidates")
    @classmethod
    def _patterns_once(cls, candidates: dict[str, list[str]]) -> dict[str, list[str]]:
        every = [pattern for own in candidates.values() for pattern in own]
        repeated = sorted({pattern for pattern in every if every.count(pattern) > 1})
        if repeated:
            raise ValueError(f"expected each name or pattern once, not {', '.join(repeated)} twice")
        return candidates

    @property
    def has_candidates(self) -> bool:
        """Whether any candidates are listed."""
        return any(self.candidates.values())
