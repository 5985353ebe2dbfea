"""Columns of large tables as numpy arrays, in place of a Python object for each value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.dtypes import StringDType
from numpy.typing import NDArray

from carbench.core.tables import CHUNK, damaged, read_chunks, write_rows

# (N,) strings of any length: 16 bytes each, and those that do not fit once more in UTF-8. Any,
# because numpy has no scalar type for them.
Texts: TypeAlias = NDArray[Any]


def texts(values: Sequence[str]) -> Texts:
    """Return strings as an array."""
    return np.array(values, StringDType())


class Categories(dict[str, int]):
    """Codes of the distinct values of a column, numbered in the order in which they are found."""

    def __missing__(self, value: str) -> int:
        code = self[value] = len(self)
        return code

    def encode(self, values: Sequence[str]) -> NDArray[np.int32]:
        """Return the code of each value (N,)."""
        return np.fromiter(map(self.__getitem__, values), np.int32, len(values))

    def in_order(self, codes: Iterable[int] | None = None) -> tuple[list[str], NDArray[np.int32]]:
        """Return the values, sorted, and for each code the index of its value there (C,).

        Args:
            codes: those whose values are wanted; the index of others is -1. Default: all.
        """
        values = list(self)
        wanted = sorted(values if codes is None else (values[code] for code in codes))
        indices = np.full(len(values), -1, np.int32)
        indices[[self[value] for value in wanted]] = np.arange(len(wanted))
        return wanted, indices


def integers(values: Sequence[str], path: Path, column: str) -> NDArray[np.int64]:
    """Return the values (N,) of a column of integers.

    Raises:
        CarbenchError: one of them is not an integer.
    """
    try:
        return np.array(values, np.int64)
    except (ValueError, OverflowError):
        raise damaged(path, f"a value that is not an integer in column {column}") from None


def floats(values: Sequence[str], path: Path, column: str) -> NDArray[np.float64]:
    """Return the values (N,) of a column of numbers.

    Raises:
        CarbenchError: one of them is not a number.
    """
    try:
        return np.array(values, np.float64)
    except ValueError:
        raise damaged(path, f"a value that is not a number in column {column}") from None


def read_matching(path: Path, images: Texts, columns: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return columns of integers for N images, (N,) each, from a table with a row per image.

    Args:
        path: a table with the column ``image``.
        images: names, in the order of the table. All tables with a row per image have the order of
            fetch's manifest, so the names in the table need not be kept in memory.
        columns: the columns.

    Raises:
        CarbenchError: the table lacks an image, or has them in another order.
    """
    found: list[list[NDArray[np.int64]]] = [[np.empty(0, np.int64)] for _ in columns]
    done = 0
    for names, *values in read_chunks(path, ("image", *columns)):
        position_of = dict(zip(names, range(len(names)), strict=True))
        wanted = images[done : done + len(names)].tolist()
        positions = [position_of[name] for name in takewhile(position_of.__contains__, wanted)]
        done += len(positions)
        for parts, column, value in zip(found, columns, values, strict=True):
            parts.append(integers(value, path, column)[positions])
    if done < len(images):
        name = images[done]
        raise damaged(path, f"no row for image {name!r}, or not in the order of the other tables")
    return [np.concatenate(parts) for parts in found]


def write_columns(path: Path, columns: Mapping[str, Texts | NDArray[Any]]) -> None:
    """Write a table of columns of N values each, with the bytes of :func:`write_table`."""
    write_rows(path, list(columns), _rows(list(columns.values())))


def _rows(columns: Sequence[Texts | NDArray[Any]]) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(columns[0]), CHUNK):
        yield from zip(*(column[start : start + CHUNK].tolist() for column in columns), strict=True)
