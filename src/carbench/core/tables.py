"""Small CSV and JSON files, byte-identical on every run; without pandas, whose import is slow."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from carbench.core.errors import CarbenchError


def read_table(path: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header; every value is a string.

    Raises:
        CarbenchError: there is no such file, it lacks one of ``columns``, or a row is incomplete.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except FileNotFoundError:
        raise missing(path) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise damaged(path, str(error)) from None
    absent = set(columns) - set(reader.fieldnames or [])
    if absent:
        raise damaged(path, f"no column {', '.join(sorted(absent))}")
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise damaged(path, f"line {number} with a different number of values than the header")
    return rows


def missing(path: Path) -> CarbenchError:
    """Return the error for a missing result."""
    return CarbenchError(
        path,
        found="nothing",
        expected="the output of an earlier stage",
        fix="run `snakemake` or `dvc repro`, which run the stages in order",
    )


def damaged(path: Path, found: str) -> CarbenchError:
    """Return the error for a result that differs from what a stage writes."""
    return CarbenchError(
        path,
        found=found,
        expected="the complete output of an earlier stage",
        fix="delete it and run again",
    )


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows in the given column order."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(_UnixLines(file), columns, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)


class _UnixLines:
    """Converts the line ends of a csv writer from CRLF to LF.

    The csv module quotes values that contain a character of its line terminator. With ``\\n`` as
    terminator, carriage returns in values would not be quoted, and would be read as line ends.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.removesuffix("\r\n") + "\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; :class:`CarbenchError` if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path) from None
    except ValueError as error:
        raise damaged(path, f"no readable JSON ({error})") from None


def write_json(path: Path, content: Any) -> None:
    """Write JSON, indented, keys in the order given."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
