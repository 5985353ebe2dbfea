"""Receipts: what a job made, from what. A receipt's key is a hash of all that it was made from.

A receipt is written once, by the job itself, after it has checked that nothing it depends on
changed while it ran. It speaks of content, not of what lies in results/ today.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from carbench.ledger.hashing import Content
from carbench.ledger.whole import write_whole

FOLDER = Path(".carbench/receipts")


@dataclass(frozen=True)
class Ingredients:
    """All that a job's result depends on: command, parameters by key, md5 of its files by path."""

    command: str
    params: Mapping[str, Any]
    deps: Mapping[str, str]

    @property
    def key(self) -> str:
        """A hash that two jobs share only if they are made from the same."""
        text = json.dumps(
            [self.command, _plain(dict(self.params)), dict(self.deps)], sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Receipt:
    """What a job made, by path, and from what; ``made`` is a time in ISO 8601."""

    job: str
    ingredients: Ingredients
    outs: Mapping[str, Content]
    made: str


def now() -> str:
    """The time, for a receipt."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def save_receipt(root: Path, receipt: Receipt) -> None:
    """Write a receipt, complete or not at all."""
    path = _place(root, receipt.job, receipt.ingredients.key)
    write_whole(path, json.dumps(asdict(receipt), ensure_ascii=False))


def find_receipt(root: Path, job: str, key: str) -> Receipt | None:
    """Return the receipt of a job with a key, or None."""
    return _read(_place(root, job, key))


def receipts_of(root: Path, job: str) -> Iterator[Receipt]:
    """Yield all receipts of a job, the newest first."""
    for path in sorted((root / FOLDER / job).glob("[0-9a-f]*.json"), key=_age):
        if receipt := _read(path):
            yield receipt


def _age(path: Path) -> float:
    return -path.stat().st_mtime


def _place(root: Path, job: str, key: str) -> Path:
    return root / FOLDER / job / f"{key}.json"


def receipt_from(document: dict[str, Any]) -> Receipt:
    """Return the receipt that ``dataclasses.asdict`` made a document of."""
    return Receipt(
        document["job"],
        Ingredients(**document["ingredients"]),
        {path: Content(**each) for path, each in document["outs"].items()},
        document["made"],
    )


def _read(path: Path) -> Receipt | None:
    try:
        return receipt_from(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # cut short by a full disk, or of another version: as if it were not there


def _plain(value: Any) -> Any:
    """1.0 and 1 are the same number to the stages and to DVC; true is none."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
