"""`plot:` - a common style and one section per figure (stage plot)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from carbench.core.params import Section


class StyleParams(Section):
    """Style of all figures; the palettes are those of seaborn."""

    palette: Literal["colorblind", "deep", "muted", "bright", "dark", "pastel"]
    font_size: Annotated[float, Field(ge=5, le=30)]
    width: Annotated[float, Field(ge=2, le=20)]
    dpi: Annotated[int, Field(ge=50, le=600)]

    @model_validator(mode="after")
    def _letters_fit(self) -> StyleParams:
        widest = self.width * 72 / 36
        if self.font_size > widest:
            raise ValueError(
                f"a font size of {self.font_size:g} points is too large for a figure of width "
                f"{self.width:g} inches: use at most {widest:g} points, or a larger width"
            )
        return self


class AccuracyParams(Section):
    """Accuracy with its interval, one row per backbone."""

    show_seeds: bool


class ParetoParams(Section):
    """Accuracy versus cost."""

    cost: Literal["latency_ms", "macs", "parameters"]
    log_scale: bool


class DifferencesParams(Section):
    """Paired differences between backbones, one row per pair."""

    intervals: bool


class ConfusionParams(Section):
    """Confusion matrices, one per backbone."""

    normalize: bool


class RecallParams(Section):
    """Recall of the chosen backbone, one row per class."""

    order: Literal["weakest", "name"]


class CurvesParams(Section):
    """Training curves, one panel per backbone."""

    metric: Literal["val_accuracy", "val_loss", "train_loss"]


class ReliabilityParams(Section):
    """Reliability diagrams: accuracy versus confidence, one panel per backbone."""

    show: Literal["both", "before", "after"]


class RiskCoverageParams(Section):
    """Risk-coverage curve: error rate among the answers versus the fraction answered."""

    others: bool


class LeakParams(Section):
    """Clean, published and leaked accuracy, and the leak gap."""

    show_leaked: bool


class RobustnessParams(Section):
    """Accuracy on corrupted images, one row per corruption."""

    show: Literal["accuracy", "drop"]


class ClassesParams(Section):
    """Class balance and duplicates."""

    order: Literal["size", "name"]


class ScreeningParams(Section):
    """Probe accuracy of the screened candidates versus their cost."""

    cost: Literal["macs", "parameters"]
    log_scale: bool


class MistakesParams(Section):
    """The most confident errors, with attribution maps."""

    count: Annotated[int, Field(ge=1, le=60)]


class LearningCurveFigureParams(Section):
    """Accuracy versus the number of training images, with extrapolation."""

    log_scale: bool


class PlotParams(Section):
    """The style and the sections of all figures."""

    style: StyleParams
    accuracy: AccuracyParams
    pareto: ParetoParams
    differences: DifferencesParams
    confusion: ConfusionParams
    recall: RecallParams
    curves: CurvesParams
    reliability: ReliabilityParams
    risk_coverage: RiskCoverageParams
    leak: LeakParams
    robustness: RobustnessParams
    classes: ClassesParams
    mistakes: MistakesParams
    screening: ScreeningParams
    learning_curve: LearningCurveFigureParams
