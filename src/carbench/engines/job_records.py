"""Job records: the inputs and outputs of a finished job, stored under a hash of the inputs.

A record is written once, by the job itself, after it has checked that nothing it depends on changed
while it ran. It identifies files by their content and stays valid when results/ changes.
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
from carbench.engines.state_files import format_state, parse_state, read_state, write_state

FOLDER = Path(".carbench/records")
SHARED_FOLDER = "records"
VERSION = 3

# Seconds since 1970, in a plausible range.
Timestamp = Annotated[float, Field(ge=0, le=4e9)]


@dataclass(frozen=True)
class JobInputs:
    """Everything that a job's results depend on.

    Attributes:
        command: the command line.
        params: values of parameters by key.
        deps: hashes of files and folders by path: md5, for code its fingerprint.
    """

    command: str
    params: Mapping[str, Any]
    deps: Mapping[str, str]

    @property
    def key(self) -> str:
        """A hash of all inputs."""
        text = json.dumps(
            [self.command, _normalize(dict(self.params)), dict(self.deps)],
            sort_keys=True,
            default=str,  # a date, for instance
        )
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class JobRecord:
    """The inputs and outputs of a finished job.

    Attributes:
        job: the job's name.
        inputs: what it was made from.
        outs: the content of its outputs by path.
        times: start and end in seconds since 1970; None if unknown.
    """

    job: str
    inputs: JobInputs
    outs: Mapping[str, Content]
    times: tuple[Timestamp, Timestamp] | None = None

    @property
    def finished(self) -> str:
        """When the job ended, in ISO 8601; "" if unknown."""
        if self.times is None:
            return ""
        return datetime.fromtimestamp(self.times[1], UTC).isoformat(timespec="seconds")


SCHEMA = TypeAdapter(JobRecord)


def save_record(root: Path, record: JobRecord, store: ContentStore | None = None) -> None:
    """Save a record in the repository and, given a store, for all other clones that use it."""
    job, key, document = record.job, record.inputs.key, asdict(record)
    write_state(_path(root / FOLDER, job, key), VERSION, document)
    if store is not None:
        shared = _path(store.shared / SHARED_FOLDER, job, key)
        with suppress(OSError), store.shared_file(shared):
            write_state(shared, VERSION, document)


def find_record(
    root: Path, job: str, key: str, store: ContentStore | None = None
) -> JobRecord | None:
    """Return the record of a job with these inputs from the repository, else from the store."""
    record = _read(root / FOLDER, job, key)
    if record is None and store is not None:
        record = _read(store.shared / SHARED_FOLDER, job, key)
    return record


def format_record(record: JobRecord) -> bytes:
    """Return the text of a record's file."""
    return format_state(VERSION, asdict(record))


def parse_record(text: bytes, job: str, key: str) -> JobRecord | None:
    """Return the record of a job with these inputs from a file's text; None if it is another."""
    return _matching(parse_state(text, VERSION, SCHEMA), job, key)


def has_record(root: Path, job: str, key: str) -> bool:
    """Return whether the repository has a record file; its content is not checked."""
    return _path(root / FOLDER, job, key).is_file()


def records_of_job(root: Path, job: str) -> Iterator[JobRecord]:
    """Yield all records of a job, the newest first."""
    for path in sorted((root / FOLDER / job).glob("[0-9a-f]*.json"), key=_newest_first):
        if record := _read(root / FOLDER, job, path.stem):
            yield record


def _newest_first(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:  # removed in the meantime
        return 0.0


def _path(folder: Path, job: str, key: str) -> Path:
    return folder / job / f"{key}.json"


def _read(folder: Path, job: str, key: str) -> JobRecord | None:
    """Return a record if its content agrees with its file name."""
    return _matching(read_state(_path(folder, job, key), VERSION, SCHEMA), job, key)


def _matching(record: JobRecord | None, job: str, key: str) -> JobRecord | None:
    return record if record and (record.job, record.inputs.key) == (job, key) else None


def _normalize(value: Any) -> Any:
    """Make 1.0 and 1 equal, as they are for the stages and for DVC; true stays different from 1."""
    if isinstance(value, dict):
        return {str(name): _normalize(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_normalize(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
