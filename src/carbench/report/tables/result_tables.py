"""Reads the result tables of other stages, for the figures and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from carbench.core.errors import CarbenchError
from carbench.core.tables import read_table
from carbench.cost.file_names import RUNTIMES
from carbench.models.timing import Runtime

OptionalNumber = Annotated[float | None, BeforeValidator(lambda text: text or None)]
SpaceSeparated = BeforeValidator(str.split)
# An interval of a fraction counts as wide from this width.
WIDE_INTERVAL = 0.2


class TableRow(BaseModel):
    """A row of a table; values are parsed from text, further columns are ignored."""

    model_config = ConfigDict(frozen=True)


class BackboneRow(TableRow):
    """A row of summary.csv: the results of one backbone. Accuracies lie between 0 and 1.

    ``training_noise``: whether the intervals include the variance between training runs;
    ``training_part``: its fraction of the squared width of the ``accuracy`` interval.
    ``exported``: only the training run that was best on val. ``clean_as_published``: on clean
    images, reweighted to the published class mix. ``onnx_ms`` and ``torch_ms``: for the model only,
    on one thread; ``onnx_end_to_end_ms``: with decoding. ``runtime``: the runtime in which the
    ``onnx`` columns were measured.
    """

    backbone: str
    model: str
    chosen: bool
    tied: bool
    seeds: Annotated[list[int], SpaceSeparated]
    val_accuracy: float
    val_low: float
    val_high: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    accuracy_by_seed: Annotated[list[float], SpaceSeparated]
    exported_seed: int
    exported_accuracy: float
    exported_low: float
    exported_high: float
    deployment_mix: str
    training_part: float
    balanced_accuracy: float
    balanced_accuracy_low: float
    balanced_accuracy_high: float
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float
    nll: float
    nll_low: float
    nll_high: float
    ece: float
    ece_low: float
    ece_high: float
    nll_calibrated: float
    nll_calibrated_low: float
    nll_calibrated_high: float
    ece_calibrated: float
    ece_calibrated_low: float
    ece_calibrated_high: float
    temperature: float
    test_images: int
    test_groups: int
    leaked_images: int
    leaked_accuracy: OptionalNumber
    leaked_low: OptionalNumber
    leaked_high: OptionalNumber
    published_accuracy: OptionalNumber
    published_low: OptionalNumber
    published_high: OptionalNumber
    clean_as_published: OptionalNumber
    clean_as_published_low: OptionalNumber
    clean_as_published_high: OptionalNumber
    leak_gap: OptionalNumber
    leak_gap_low: OptionalNumber
    leak_gap_high: OptionalNumber
    parameters: float
    macs: float
    onnx_bytes: float
    onnx_ms: float
    onnx_ms_low: float
    onnx_ms_high: float
    onnx_end_to_end_ms: float
    onnx_end_to_end_ms_low: float
    onnx_end_to_end_ms_high: float
    onnx_memory_mb: float
    torch_ms: float
    torch_ms_low: float
    torch_ms_high: float
    runtime: str
    machine: str
    confidence: float
    training_noise: bool

    @property
    def seed_range(self) -> tuple[float, float]:
        """Lowest and highest accuracy over the seeds."""
        return min(self.accuracy_by_seed), max(self.accuracy_by_seed)


class ComparisonRow(TableRow):
    """A row of comparisons.csv: the accuracy of ``backbone`` minus that of ``other``, paired.

    The interval and ``significant`` are corrected for the number of comparisons. ``better`` and
    ``equivalent`` are the probabilities, for this pair alone, that the first is better and that
    neither is better by more than the margin. ``detectable``: the true difference that would be
    significant in 80 of 100 such studies; ``detectable_half``: in 50.
    """

    backbone: str
    other: str
    difference: float
    difference_low: float
    difference_high: float
    p_adjusted: float
    significant: bool
    better: float
    equivalent: float
    detectable: float
    detectable_half: float

    @property
    def reversed(self) -> ComparisonRow:
        """The same comparison with the two backbones exchanged."""
        return self.model_copy(
            update={
                "backbone": self.other,
                "other": self.backbone,
                "difference": -self.difference,
                "difference_low": -self.difference_high,
                "difference_high": -self.difference_low,
                "better": 1 - self.better,
            }
        )


class ChoiceRow(TableRow):
    """A row of choice.csv: a backbone on the validation images, the best first.

    ``tied``: not significantly different from the best; ``eligible``: the rule for ties allows to
    choose it; ``difference``: gap to the best; ``loses_margin``: probability that the true gap is
    larger than the rule allows; ``cost_tied``: eligible, and costs no more than the cheapest
    eligible one.
    """

    backbone: str
    chosen: bool
    tied: bool
    eligible: bool
    val_accuracy: float
    val_low: float
    val_high: float
    difference: float
    difference_low: float
    difference_high: float
    loses_margin: float
    cost: float
    cost_tied: bool
    cost_by: str


class LatencyRow(TableRow):
    """A row of measured.csv: the time of a backbone in one runtime, and images per second.

    ``images``: batch size; ``decoding``: whether the time includes decoding the file.
    """

    backbone: str
    runtime: Runtime
    threads: int
    images: int
    decoding: bool
    ms: float
    ms_low: float
    ms_high: float
    images_per_s: float
    images_per_s_low: float
    images_per_s_high: float

    @property
    def configuration(self) -> tuple[object, ...]:
        """The key of the row."""
        return self.backbone, self.runtime, self.threads, self.images, self.decoding

    @property
    def label(self) -> str:
        """The configuration without the backbone, as text."""
        parts = [RUNTIMES[self.runtime]]
        if self.runtime != "torch-cuda":
            parts.append(f"{self.threads} thread{'s' * (self.threads > 1)}")
        if self.images > 1:
            parts.append(f"batch of {self.images}")
        return ", ".join(parts) + " with decoding" * self.decoding


class ShortlistRow(TableRow):
    """A row of shortlist.csv: a screened candidate, the most accurate first.

    ``accuracy``: cross-validated accuracy of a linear probe on frozen features of training images;
    ``behind``: gap to the best.
    """

    rank: int
    model: str
    family: str
    start: str
    license: str
    parameters: float
    macs: float
    image_size: int
    images: int
    accuracy: float
    low: float
    high: float
    behind: float
    behind_low: float
    behind_high: float
    tied: bool
    shortlisted: bool
    neighbour_accuracy: float
    confidence: float

    @property
    def trained(self) -> bool:
        """Whether it starts from pretrained weights."""
        return self.start != "random"


class RecallRow(TableRow):
    """A row of recall.csv: the fraction of a class's clean test images classified correctly."""

    backbone: str
    label: str = Field(alias="class")
    images: int
    recall: float
    low: float
    high: float
    training_part: float

    @property
    def doubt(self) -> str:
        """The main cause of a wide interval; empty if the interval is not wide."""
        if self.high - self.low < WIDE_INTERVAL:
            return ""
        return "few training runs" if self.training_part > 0.5 else "few images"


class RobustnessRow(TableRow):
    """A row of robustness.csv; ``drop`` is the accuracy lost to the corruption."""

    backbone: str
    corruption: str
    accuracy: float
    low: float
    high: float
    drop: OptionalNumber
    drop_low: OptionalNumber
    drop_high: OptionalNumber


class SliceRow(TableRow):
    """A row of slices.csv: accuracy on one subset of the clean test images."""

    backbone: str
    slice: str
    value: str
    images: int
    accuracy: float
    low: float
    high: float


class LearningCurveRow(TableRow):
    """A row of learning_curve.csv: a measured or extrapolated fraction of the training images.

    ``images``: mean over seeds; ``fitted``: accuracy according to the fitted power law.
    """

    backbone: str
    fraction: float
    kind: str
    images: float
    accuracy: float
    low: float
    high: float
    fitted: OptionalNumber
    accuracy_by_seed: Annotated[list[float], SpaceSeparated]
    seeds: Annotated[list[int], SpaceSeparated]
    steps: int
    val_images: int
    confidence: float

    @property
    def measured(self) -> bool:
        """Whether the accuracy was measured, not extrapolated."""
        return self.kind == "measured"

    @property
    def place(self) -> str:
        """The fraction as written in the table."""
        return f"{self.fraction:g}"


class MistakeRow(TableRow):
    """A row of mistakes.csv: a clean test image that the chosen backbone misclassified."""

    seed: int
    image: str
    label: str = Field(alias="class")
    predicted: str
    confidence: float
    seeds_wrong: int
    row: int


RowType = TypeVar("RowType", bound=TableRow)


def not_none(*numbers: float | None) -> list[float]:
    """Return numbers from columns that are empty only together, if they are not empty."""
    return [number for number in numbers if number is not None]


def read_summary(path: Path) -> list[BackboneRow]:
    """Return the rows of summary.csv: the chosen backbone first, then by validation accuracy."""
    return read_rows(path, BackboneRow)


def read_rows(path: Path, kind: type[RowType]) -> list[RowType]:
    """Return the rows of a table as ``kind``; :class:`CarbenchError` if they do not match it."""
    return [_parse(path, number, row, kind) for number, row in enumerate(read_table(path), 2)]


def _parse(path: Path, line: int, row: dict[str, Any], kind: type[RowType]) -> RowType:
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        problem = error.errors()[0]
        column = ".".join(str(part) for part in problem["loc"])
        found = "no such column" if problem["type"] == "missing" else repr(problem["input"])
        raise CarbenchError(
            path,
            key=f"line {line}, column {column}",
            found=found,
            expected=f"the columns {', '.join(kind.model_fields)}",
            fix="use the table that stage aggregate writes for this",
        ) from None
