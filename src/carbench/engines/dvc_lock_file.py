"""dvc.lock, read and written in its documented format (schema 2.0), without loading DVC.

Reading a large one as YAML takes seconds; what was read is therefore remembered in
``.carbench/dvc-lock.json`` for as long as the file's md5 is the same. Writing replaces the text of
the jobs that changed and leaves the rest as it is.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from carbench.core.atomic import write_atomic
from carbench.core.errors import CarbenchError
from carbench.engines.dvc_yaml import PARAMS, JobSpec
from carbench.engines.hashing import Content
from carbench.engines.job_records import JobInputs, JobRecord
from carbench.engines.state_files import read_state, write_state

log = logging.getLogger("carbench")

LOCK = Path("dvc.lock")
MEMORY = Path(".carbench/dvc-lock.json")
BLOCK = re.compile(r"^  (\S.*):\n", re.MULTILINE)
# Of the form of the memory.
VERSION = 2
HEAD = "schema: '2.0'\nstages:\n"


@dataclass(frozen=True)
class Memory:
    """What was read of a dvc.lock with this md5."""

    md5: str
    entries: Mapping[str, JobRecord]


FORM = TypeAdapter(Memory)


@dataclass(frozen=True)
class DvcLockFile:
    """What dvc.lock says of every job, as records without a time.

    ``complete`` is False if DVC was killed while it wrote the file: it empties the file first. The
    entries are then those that were read last before.
    """

    entries: Mapping[str, JobRecord]
    complete: bool


def read_lock_file(root: Path = Path()) -> DvcLockFile:
    """Read dvc.lock; no entries if there is none.

    Raises:
        CarbenchError: the file has conflicts of a merge.
    """
    path = root / LOCK
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return DvcLockFile({}, True)
    memory = read_state(root / MEMORY, VERSION, FORM) or Memory("", {})
    if memory.md5 == _md5(text):
        return DvcLockFile(memory.entries, True)
    if b"<<<<<<<" in text:
        raise CarbenchError(
            path,
            found="conflicts of a merge",
            expected="what DVC writes",
            fix="take either side, for instance git checkout --ours dvc.lock: the next run of "
            "either engine puts into it what is current",
        )
    try:
        if not text.endswith(b"\n"):
            raise ValueError("no end")
        entries = dict(_entries(YAML(typ="safe").load(text)["stages"]))
    except (YAMLError, ValueError, TypeError, KeyError, AttributeError):
        log.warning("dvc.lock was cut short by a kill; what is current is put into it anew")
        return DvcLockFile(memory.entries, False)
    _remember(root, text, entries)
    return DvcLockFile(entries, True)


def write_lock_file(
    root: Path, records: Mapping[str, tuple[JobSpec, JobRecord, Mapping[str, Content]]]
) -> None:
    """Put jobs into dvc.lock, complete or not at all; the caller holds DVC's lock.

    What the file says of other jobs is kept, unless a kill has cut it short.

    Args:
        root: the repository.
        records: by name, the job, what it made from what, and the content of what it depends on.

    Raises:
        CarbenchError: what was written does not read back as it was meant.
    """
    path = root / LOCK
    before = read_lock_file(root)
    text = path.read_text(encoding="utf-8") if before.complete and path.exists() else HEAD
    blocks = _blocks(text)
    entries = dict(before.entries) if before.complete else {}
    for name, (job, record, deps) in records.items():
        block = _dump({"stages": {name: _entry(job, record, deps)}})
        ((_, entries[name]),) = _entries(YAML(typ="safe").load(block)["stages"])
        meant = {path: deps[path].md5 for path in job.deps}
        if not _same(entries[name], record, meant):
            raise CarbenchError(
                path,
                key=name,
                found="an entry that does not read back as it was written",
                expected="the same parameters, files and hashes",
                fix="write parameters that YAML gives back, such as quoted texts",
            )
        blocks[name] = block.partition("\n")[2]
    if not blocks:  # DVC takes no file, but not an empty list of stages
        path.unlink(missing_ok=True)
        return
    head = text[: text.index("stages:\n") + len("stages:\n")] if "stages:\n" in text else HEAD
    complete = (head + "".join(blocks.values())).encode()
    write_atomic(path, complete)
    _remember(root, complete, entries)


def _same(read: JobRecord, written: JobRecord, deps: Mapping[str, str]) -> bool:
    meant = replace(written.inputs, deps=deps)
    contents = [{path: each.md5 for path, each in which.outs.items()} for which in (read, written)]
    return read.inputs.key == meant.key and contents[0] == contents[1]


def _remember(root: Path, text: bytes, entries: Mapping[str, JobRecord]) -> None:
    write_state(root / MEMORY, VERSION, asdict(Memory(_md5(text), entries)))


def _md5(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def _blocks(text: str) -> dict[str, str]:
    """The text of every job below ``stages:``, by name."""
    start = text.find("stages:\n")
    body = text[start + len("stages:\n") :] if start >= 0 else ""
    starts = [each.start() for each in BLOCK.finditer(body)]
    ends = [*starts[1:], len(body)][: len(starts)]
    parts = [body[start:end] for start, end in zip(starts, ends, strict=True)]
    return {part.partition(":\n")[0].strip(" '\""): part for part in parts}


def _entry(job: JobSpec, record: JobRecord, deps: Mapping[str, Content]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "cmd": job.command,
        "deps": [_file(path, deps[path]) for path in sorted(job.deps)],
        "params": _by_file(record.inputs.params),
        "outs": [_file(path, record.outs[path]) for path in sorted(job.outs)],
    }
    return {name: each for name, each in entry.items() if each}  # DVC leaves out what is empty


def _by_file(params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    files: dict[str, dict[str, Any]] = {}
    for name in sorted(params):
        file, _, key = name.rpartition(":")
        files.setdefault(file or str(PARAMS), {})[key] = params[name]
    return {file: files[file] for file in sorted(files)}


def _file(path: str, content: Content) -> dict[str, Any]:
    entry = {"path": path, "hash": "md5", "md5": content.md5, "size": content.size}
    return entry if content.nfiles is None else entry | {"nfiles": content.nfiles}


def _entries(stages: Mapping[str, Any]) -> Iterator[tuple[str, JobRecord]]:
    """What dvc.lock says of each job; of stages that carbench does not know the form, nothing."""
    for name, entry in stages.items():
        with suppress(LookupError, TypeError, AttributeError):
            yield str(name), _record(name, entry)


def _record(name: str, entry: dict[str, Any]) -> JobRecord:
    params = {
        key if file == str(PARAMS) else f"{file}:{key}": value
        for file, values in entry.get("params", {}).items()
        for key, value in values.items()
    }
    deps = {each["path"]: each.get("md5", "") for each in entry.get("deps", [])}
    outs = {
        each["path"]: Content(each.get("md5", ""), each.get("size", 0), each.get("nfiles"))
        for each in entry.get("outs", [])
    }
    return JobRecord(name, JobInputs(entry["cmd"], params, deps), outs)


def _dump(content: Any) -> str:
    """YAML as DVC writes it, so that neither changes what the other wrote."""
    writer = YAML()
    writer.default_flow_style = False
    stream = io.StringIO()
    writer.dump(content, stream)
    return stream.getvalue()
