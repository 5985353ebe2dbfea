"""Reads summary.csv and comparisons.csv, for the figures and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from carbench.errors import CarbenchError
from carbench.tables import read_table

Optional = Annotated[float | None, BeforeValidator(lambda text: text or None)]
Words = BeforeValidator(str.split)


class Row(BaseModel):
    """A row of a table; values are parsed from text, further columns are ignored."""

    model_config = ConfigDict(frozen=True)


class Backbone(Row):
    """A row of summary.csv: what is known of one backbone. Accuracies lie between 0 and 1."""

    backbone: str
    model: str
    chosen: bool
    seeds: Annotated[list[int], Words]
    val_accuracy: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    accuracy_by_seed: Annotated[list[float], Words]
    balanced_accuracy: float
    macro_f1: float
    nll: float
    ece: float
    test_images: int
    test_groups: int
    leaked_images: int
    leaked_accuracy: Optional
    published_accuracy: Optional
    leak_gap: Optional
    parameters: float
    macs: float
    latency_ms: float
    throughput: float
    peak_memory_mb: float
    device: str
    confidence: float

    @property
    def seed_range(self) -> tuple[float, float]:
        """Lowest and highest accuracy of a seed."""
        return min(self.accuracy_by_seed), max(self.accuracy_by_seed)


class Comparison(Row):
    """A row of comparisons.csv: the accuracy of ``backbone`` minus that of ``other``, paired."""

    backbone: str
    other: str
    difference: float
    difference_low: float
    difference_high: float

    @property
    def decided(self) -> bool:
        """Whether the interval excludes zero."""
        return self.difference_low > 0 or self.difference_high < 0


AnyRow = TypeVar("AnyRow", bound=Row)


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
