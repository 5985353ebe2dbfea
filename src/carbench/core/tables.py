"""Small CSV and JSON files, byte-identical on every run; without pandas, whose import is slow."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from carbench.core.errors import CarbenchError

# Rows that are parsed at a time: few enough for the caches of a processor.
CHUNK = 500


def read_table(path: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header; every value is a string.

    For tables with a row per image, see :func:`read_chunks`.

    Raises:
        CarbenchError: there is no such file, it lacks one of ``columns``, or a row is incomplete.
    """
    return [
        dict(zip(header, row, strict=True))
        for header, rows in _read_rows(path, columns)
        for row in rows
    ]


def read_chunks(path: Path, columns: Sequence[str]) -> Iterator[tuple[tuple[str, ...], ...]]:
    """Yield some columns of a CSV file, a few hundred rows at a time: a tuple for each column.

    A million rows of manifest.csv take two seconds, where :func:`read_table` takes four and a GB
    of memory.

    Raises:
        CarbenchError: as in :func:`read_table`.
    """
    for header, rows in _read_rows(path, columns):
        values = tuple(zip(*rows, strict=True))
        yield tuple(values[header.index(name)] for name in columns)


def read_header(path: Path) -> list[str]:
    """Return the names of the columns of a CSV file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])
    except FileNotFoundError:
        raise missing(path) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise damaged(path, str(error)) from None


def _read_rows(path: Path, columns: Iterable[str]) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Yield the header with the next rows, at least one, until the end of the file."""
    line = 2
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            absent = set(columns) - set(header)
            if absent:
                raise damaged(path, f"no column {', '.join(sorted(absent))}")
            rows = filter(None, reader)  # without empty lines
            while chunk := list(islice(rows, CHUNK)):
                if set(map(len, chunk)) != {len(header)}:
                    line += next(n for n, row in enumerate(chunk) if len(row) != len(header))
                    found = f"line {line} with a different number of values than the header"
                    raise damaged(path, found)
                line += len(chunk)
                yield header, chunk
    except FileNotFoundError:
        raise missing(path) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise damaged(path, str(error)) from None


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


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows of values in the order of the columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(_UnixLines(file), lineterminator="\r\n")
        writer.writerow(columns)
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
