"""What stages that conclude something from images share: how sure they have to be."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from carbench.core.params import Section


class IntervalSection(Section):
    """The confidence of intervals, and of what is concluded from them."""

    confidence: Annotated[float, Field(gt=0.5, le=0.9999)]
