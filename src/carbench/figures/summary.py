"""Reads the tables that aggregate, choose and shortlist wrote, for the figures and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from carbench.errors import CarbenchError
from carbench.tables import read_table

Optional = Annotated[float | None, BeforeValidator(lambda text: text or None)]
Words = BeforeValidator(str.split)


class Row(BaseModel):
    """A row of a table; values are parsed from text, further columns are ignored."""

    model_config = ConfigDict(frozen=True)


class Backbone(Row):
    """A row of summary.csv: what is known of one backbone. Accuracies lie between 0 and 1.

    ``training_noise``: whether the intervals hold how much trainings differ.
    """

    backbone: str
    model: str
    chosen: bool
    tied: bool
    seeds: Annotated[list[int], Words]
    val_accuracy: float
    val_low: float
    val_high: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    accuracy_by_seed: Annotated[list[float], Words]
    balanced_accuracy: float
    balanced_accuracy_low: float
    balanced_accuracy_high: float
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float
    nll: float
    nll_calibrated: float
    ece: float
    ece_calibrated: float
    temperature: float
    test_images: int
    test_groups: int
    leaked_images: int
    leaked_accuracy: Optional
    leaked_low: Optional
    leaked_high: Optional
    published_accuracy: Optional
    published_low: Optional
    published_high: Optional
    leak_gap: Optional
    leak_gap_low: Optional
    leak_gap_high: Optional
    parameters: float
    macs: float
    latency_ms: float
    throughput: float
    peak_memory_mb: float
    device: str
    confidence: float
    training_noise: bool

    @property
    def seed_range(self) -> tuple[float, float]:
        """Lowest and highest accuracy of a seed."""
        return min(self.accuracy_by_seed), max(self.accuracy_by_seed)


class Comparison(Row):
    """A row of comparisons.csv: the accuracy of ``backbone`` minus that of ``other``, paired.

    The interval and ``significant`` are corrected for the number of comparisons.
    """

    backbone: str
    other: str
    difference: float
    difference_low: float
    difference_high: float
    p_adjusted: float
    significant: bool

    @property
    def reversed(self) -> Comparison:
        """The same comparison seen from the other backbone."""
        return Comparison(
            backbone=self.other,
            other=self.backbone,
            difference=-self.difference,
            difference_low=-self.difference_high,
            difference_high=-self.difference_low,
            p_adjusted=self.p_adjusted,
            significant=self.significant,
        )


class Choice(Row):
    """A row of choice.csv: a backbone on the validation pictures, the best first.

    ``tied``: not told apart from the best; ``eligible``: may be chosen by the rule for ties.
    """

    backbone: str
    chosen: bool
    tied: bool
    eligible: bool
    val_accuracy: float
    val_low: float
    val_high: float
    cost: float
    cost_by: str


class Screened(Row):
    """A row of shortlist.csv: a screened candidate, the most accurate first.

    ``accuracy`` is that of a linear probe on frozen features, by cross-validation on training
    images; ``behind`` how far behind the best it is.
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
        """Whether it starts from trained weights."""
        return self.start != "random"


class Recall(Row):
    """A row of recall.csv: the part of a class's clean test pictures that is recognised."""

    backbone: str
    label: str = Field(alias="class")
    images: int
    recall: float
    low: float
    high: float


class Robustness(Row):
    """A row of robustness.csv; ``drop`` is the accuracy that a corruption costs."""

    backbone: str
    corruption: str
    accuracy: float
    low: float
    high: float
    drop: Optional
    drop_low: Optional
    drop_high: Optional


class Slice(Row):
    """A row of slices.csv: accuracy on the clean test pictures of one kind."""

    backbone: str
    slice: str
    value: str
    images: int
    accuracy: float
    low: float
    high: float


class Mistake(Row):
    """A row of mistakes.csv: a clean test picture that the chosen backbone got wrong."""

    seed: int
    image: str
    label: str = Field(alias="class")
    predicted: str
    confidence: float
    seeds_wrong: int
    row: int


AnyRow = TypeVar("AnyRow", bound=Row)


def known(*numbers: float | None) -> list[float]:
    """Return numbers that the table leaves empty only together, where they are not."""
    return [number for number in numbers if number is not None]


def read_summary(path: Path) -> list[Backbone]:
    """Return the backbones in the order of summary.csv: the chosen one first, then by val."""
    return read_rows(path, Backbone)


def read_rows(path: Path, kind: type[AnyRow]) -> list[AnyRow]:
    """Return the rows of a table as ``kind``; :class:`CarbenchError` if it is another table."""
    return [_parse(path, number, row, kind) for number, row in enumerate(read_table(path), 2)]


def _parse(path: Path, line: int, row: dict[str, Any], kind: type[AnyRow]) -> AnyRow:
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
            fix="give the table that stage aggregate writes for this",
        ) from None
