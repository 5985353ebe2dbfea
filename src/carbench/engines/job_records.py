"""Receipts: what a job made, from what. A record's key is a hash of all that it was made from.

A record is written once, by the job itself, after it has checked that nothing it depends on
changed while it ran. It speaks of content, not of what lies in results/ today.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from carbench.engines.content_store import ContentStore
from carbench.engines.hashing import Content
from carbench.engines.state_files import read_state, write_state

FOLDER = Path(".carbench/records")
VERSION = 2

# Seconds since 1970, of this century and the last.
Moment = Annotated[float, Field(ge=0, le=4e9)]


@dataclass(frozen=True)
class JobInputs:
    """All that a job's result depends on: command, parameters by key, md5 of its files by path."""

    command: str
    params: Mapping[str, Any]
    deps: Mapping[str, str]

    @property
    def key(self) -> str:
        """A hash that two jobs share only if they are made from the same."""
        text = json.dumps(
            [self.command, _plain(dict(self.params)), dict(self.deps)],
            sort_keys=True,
            default=str,  # a date, say
        )
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class JobRecord:
    """What a job made, by path, and from what.

    Attributes:
        job: its name.
        inputs: what it was made from.
        outs: what was made.
        times: when the job began and ended, in seconds since 1970; None: not known.
    """

    job: str
    inputs: JobInputs
    outs: Mapping[str, Content]
    times: tuple[Moment, Moment] | None = None

    @property
    def made(self) -> str:
        """When the job ended, in ISO 8601; "" where that is not known."""
        if self.times is None:
            return ""
        return datetime.fromtimestamp(self.times[1], UTC).isoformat(timespec="seconds")


FORM = TypeAdapter(JobRecord)


def save_record(root: Path, record: JobRecord, store: ContentStore | None = None) -> None:
    """Write a record, complete or not at all; with a store, also for all who use that."""
    job, key, document = record.job, record.inputs.key, asdict(record)
    write_state(_place(root / FOLDER, job, key), VERSION, document)
    if store is not None:
        shared = _place(store.shared / "records", job, key)
        with suppress(OSError), store.shared_file(shared):
            write_state(shared, VERSION, document)


def find_record(
    root: Path, job: str, key: str, store: ContentStore | None = None
) -> JobRecord | None:
    """Return the record of a job with a key, from here or else from a store, or None."""
    found = _read(root / FOLDER, job, key)
    if found is None and store is not None:
        found = _read(store.shared / "records", job, key)
    return found


def has_record(root: Path, job: str, key: str) -> bool:
    """Say whether this clone has a record, without a look into it."""
    return _place(root / FOLDER, job, key).is_file()


def records_of_job(root: Path, job: str) -> Iterator[JobRecord]:
    """Yield all records of a job, the newest first."""
    for path in sorted((root / FOLDER / job).glob("[0-9a-f]*.json"), key=_age):
        if record := _read(root / FOLDER, job, path.stem):
            yield record


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:  # removed this moment
        return 0.0


def _place(folder: Path, job: str, key: str) -> Path:
    return folder / job / f"{key}.json"


def _read(folder: Path, job: str, key: str) -> JobRecord | None:
    """A record, if it is of this job and of what its name says."""
    record = read_state(_place(folder, job, key), VERSION, FORM)
    return record if record and (record.job, record.inputs.key) == (job, key) else None


def _plain(value: Any) -> Any:
    """1.0 and 1 are the same number to the stages and to DVC; true is none."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
