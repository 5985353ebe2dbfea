"""`plot:` - how the figures look: a style for all, and a section for each (stage plot)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from carbench.params.base import Section


class StyleParams(Section):
    """What all figures share; the palettes are seaborn's, as matplotlib brings them."""

    palette: Literal["colorblind", "deep", "muted", "bright", "dark", "pastel"]
    font_size: Annotated[float, Field(ge=5, le=30)]
    width: Annotated[float, Field(ge=2, le=20)]

    @model_validator(mode="after")
    def _letters_fit(self) -> StyleParams:
        widest = self.width * 72 / 36
        if self.font_size > widest:
            raise ValueError(
                f"letters of {self.font_size:g} points crowd a figure {self.width:g} inches wide:"
                f" use at most {widest:g} points, or a greater width"
            )
        return self


class AccuracyParams(Section):
    """Accuracy with its interval, a row a backbone."""

    show_seeds: bool


class ParetoParams(Section):
    """Accuracy against cost."""

    cost: Literal["latency_ms", "macs", "parameters"]
    log_scale: bool


class CurvesParams(Section):
    """Learning curves."""

    metric: Literal["val_accuracy", "val_loss", "train_loss"]


class ConfusionParams(Section):
    """Confusion matrices, one a backbone."""

    normalize: bool


class PlotParams(Section):
    """The whole section."""

    style: StyleParams
    accuracy: AccuracyParams
    pareto: ParetoParams
    curves: CurvesParams
    confusion: ConfusionParams
