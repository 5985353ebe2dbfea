"""`calibrate:` - when a model is sure enough, decided on val (stage calibrate)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from carbench.core.params import Section


class CalibrateParams(Section):
    """The wanted error of what is answered, and the wanted coverage of sets; 0 is none."""

    max_error: Annotated[float, Field(ge=0, lt=1)]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    set_coverage: Annotated[float, Field(ge=0, lt=1)]
