"""Small CSV and JSON files, the same to the byte on every run. No pandas: it starts slowly."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from carbench.errors import CarbenchError


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header; every value is text."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise CarbenchError(
            path,
            found="no such file",
            expected="the table that an earlier stage writes",
            fix="run `snakemake` or `dvc repro`, which run the stages in order",
        ) from None


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows in the given column order."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON, indented, keys in the order given."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
