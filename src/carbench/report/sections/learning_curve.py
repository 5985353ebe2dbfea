"""Learning curve: accuracy by number of training images, from stage learning_curve."""

from __future__ import annotations

from dataclasses import dataclass

from carbench.params.report import ReportParams
from carbench.report.sections.section import ReportSection
from carbench.report.study_results import StudyResults
from carbench.report.tables.result_tables import (
    LearningCurveRow,
    OptionalNumber,
    TableRow,
    read_rows,
)


class ExtrapolationRow(TableRow):
    """A row of extrapolation.csv: numbers, or in ``reason`` why there are none."""

    backbone: str
    factor: float
    gain: OptionalNumber
    gain_low: OptionalNumber
    gain_high: OptionalNumber
    training_noise: str
    fits: str
    reason: str

    @property
    def shown(self) -> bool:
        """Whether the interval of the gain excludes zero."""
        low, high = self.gain_low, self.gain_high
        return low is not None and high is not None and (low > 0 or high < 0)

    @property
    def includes_training_variance(self) -> bool:
        """Whether the interval includes the variance between training runs."""
        return self.training_noise == "1"

    @property
    def times(self) -> str:
        """The factor in words: "twice" or "3 times" (as many images)."""
        return "twice" if self.factor == 2 else f"{self.factor:g} times"


@dataclass(frozen=True)
class LearningCurves:
    """The curves of all backbones, in the order of the study.

    Attributes:
        counts: number of images of each trained fraction, in ascending order.
        points: by backbone, one measured point per fraction.
        ahead: the extrapolation for each backbone, or why there is none.
    """

    counts: dict[float, float]
    points: dict[str, list[LearningCurveRow]]
    ahead: dict[str, ExtrapolationRow]

    @property
    def all_images(self) -> LearningCurveRow:
        """The row of the first backbone for training on all images."""
        return next(iter(self.points.values()))[-1]


def load(study: StudyResults, params: ReportParams) -> LearningCurves | None:
    """Read what the section needs; None if the study has no learning curve."""
    folder = study.sources.learning_curve
    rows = read_rows(folder / "learning_curve.csv", LearningCurveRow)
    if not rows:
        return None
    ahead = {row.backbone: row for row in read_rows(folder / "extrapolation.csv", ExtrapolationRow)}
    names = [each.backbone for each in study.backbones]
    measured = [row for row in rows if row.measured]
    return LearningCurves(
        {row.fraction: row.images for row in measured},
        {name: [row for row in measured if row.backbone == name] for name in names},
        {name: ahead[name] for name in names},
    )


SECTION = ReportSection(
    "learning_curve",
    "Learning curve",
    load,
    {"learning_curve": "Validation accuracy of each backbone versus the number of training images"},
    ("learning_curve", "extrapolation"),
)
