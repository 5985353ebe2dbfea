"""dvc.lock, read and written in its documented format (schema 2.0), without importing DVC.

Parsing a large file takes seconds; its content is therefore cached in ``.carbench/dvc-lock.json``
for as long as the file's md5 stays the same. Writing replaces the text of the jobs that changed and
leaves the rest of the file as it is.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from carbench.core.atomic import write_atomic
from carbench.core.errors import CarbenchError
from carbench.engines.dvc_yaml import PARAMS, JobSpec
from carbench.engines.hashing import Content, bytes_md5
from carbench.engines.job_records import JobInputs, JobRecord
from carbench.engines.state_files import read_state, write_state

log = logging.getLogger("carbench")

LOCK_FILE = Path("dvc.lock")
CACHE_FILE = Path(".carbench/dvc-lock.json")
VERSION = 3
BLOCK = re.compile(r"^  (\S.*):\n", re.MULTILINE)
HEAD = "schema: '2.0'\nstages:\n"


@dataclass(frozen=True)
class CachedEntries:
    """The entries of the dvc.lock with this md5."""

    md5: str
    entries: Mapping[str, JobRecord]


SCHEMA = TypeAdapter(CachedEntries)


@dataclass(frozen=True)
class DvcLockFile:
    """The entries of dvc.lock by job, as records without times.

    ``complete`` is False if DVC was killed while it wrote the file, which it truncates first. The
    entries are then those of the last complete file that was read.
    """

    entries: Mapping[str, JobRecord]
    complete: bool


def read_lock_file(root: Path = Path()) -> DvcLockFile:
    """Read dvc.lock; a missing file has no entries.

    Raises:
        CarbenchError: the file contains merge conflicts.
    """
    path = root / LOCK_FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return DvcLockFile({}, True)
    cached = read_state(root / CACHE_FILE, VERSION, SCHEMA) or CachedEntries("", {})
    if cached.md5 == bytes_md5(text):
        return DvcLockFile(cached.entries, True)
    if b"<<<<<<<" in text:
        raise CarbenchError(
            path,
            found="merge conflicts",
            expected="a file written by DVC",
            fix="take either side, for instance with git checkout --ours dvc.lock; the next run of "
            "either engine adds all jobs that are up to date",
        )
    try:
        if not text.endswith(b"\n"):
            raise ValueError("no final newline")
        entries = dict(_parse_entries(YAML(typ="safe").load(text)["stages"]))
    except (YAMLError, ValueError, TypeError, KeyError, AttributeError):
        log.warning("dvc.lock is incomplete: DVC was killed while writing it; it is rebuilt")
        return DvcLockFile(cached.entries, False)
    _cache(root, text, entries)
    return DvcLockFile(entries, True)


def read_entry(text: str, name: str) -> JobRecord | None:
    """Return a job's entry in the text of a dvc.lock, of a commit for instance; None without one.

    Only this entry is parsed.
    """
    block = _blocks(text).get(name)
    if block is None:
        return None
    stages = YAML(typ="safe").load(f"stages:\n{block}")["stages"]
    return dict(_parse_entries(stages)).get(name)


def write_lock_file(
    root: Path, records: Mapping[str, tuple[JobSpec, JobRecord, Mapping[str, Content]]]
) -> None:
    """Add or replace the entries of jobs, atomically. The caller holds DVC's lock.

    Entries of other jobs are kept, unless the file is incomplete.

    Args:
        root: the repository.
        records: by name, the job, its record, and the content of its dependencies.

    Raises:
        CarbenchError: an entry does not read back as it was written.
    """
    path = root / LOCK_FILE
    before = read_lock_file(root)
    text = path.read_text(encoding="utf-8") if before.complete and path.exists() else HEAD
    blocks = _blocks(text)
    entries = dict(before.entries) if before.complete else {}
    for name, (job, record, deps) in records.items():
        block = _dump({"stages": {name: _entry(job, record, deps)}})
        ((_, entries[name]),) = _parse_entries(YAML(typ="safe").load(block)["stages"])
        hashes = {path: deps[path].md5 for path in job.deps}
        if not _is_same(entries[name], record, hashes):
            raise CarbenchError(
                path,
                key=name,
                found="an entry that does not read back as it was written",
                expected="the same parameters, files and hashes",
                fix="write parameters that YAML preserves, for instance quoted strings",
            )
        blocks[name] = block.partition("\n")[2]
    if not blocks:  # DVC accepts a missing file, but not an empty list of stages
        path.unlink(missing_ok=True)
        return
    head = text[: text.index("stages:\n") + len("stages:\n")] if "stages:\n" in text else HEAD
    content = (head + "".join(blocks.values())).encode()
    write_atomic(path, content)
    _cache(root, content, entries)


def _is_same(read: JobRecord, written: JobRecord, deps: Mapping[str, str]) -> bool:
    expected = replace(written.inputs, deps=deps)
    outs = [
        {path: content.md5 for path, content in record.outs.items()} for record in (read, written)
    ]
    return read.inputs.key == expected.key and outs[0] == outs[1]


def _cache(root: Path, text: bytes, entries: Mapping[str, JobRecord]) -> None:
    # dataclasses.asdict takes a second for the entries of two thousand jobs.
    content = SCHEMA.dump_python(CachedEntries(bytes_md5(text), entries))
    write_state(root / CACHE_FILE, VERSION, content)


def _blocks(text: str) -> dict[str, str]:
    """Return the text of each job below ``stages:`` by name."""
    start = text.find("stages:\n")
    body = text[start + len("stages:\n") :] if start >= 0 else ""
    starts = [match.start() for match in BLOCK.finditer(body)]
    ends = [*starts[1:], len(body)][: len(starts)]
    blocks = [body[start:end] for start, end in zip(starts, ends, strict=True)]
    return {block.partition(":\n")[0].strip(" '\""): block for block in blocks}


def _entry(job: JobSpec, record: JobRecord, deps: Mapping[str, Content]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "cmd": job.command,
        "deps": [_file_entry(path, deps[path]) for path in sorted(job.deps)],
        "params": _by_file(record.inputs.params),
        "outs": [_file_entry(path, record.outs[path]) for path in sorted(job.outs)],
    }
    return {name: value for name, value in entry.items() if value}  # DVC omits empty values


def _by_file(params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    files: dict[str, dict[str, Any]] = {}
    for name in sorted(params):
        file, _, key = name.rpartition(":")
        files.setdefault(file or str(PARAMS), {})[key] = params[name]
    return {file: files[file] for file in sorted(files)}


def _file_entry(path: str, content: Content) -> dict[str, Any]:
    entry = {"path": path, "hash": "md5", "md5": content.md5, "size": content.size}
    return entry if content.nfiles is None else entry | {"nfiles": content.nfiles}


def _parse_entries(stages: Mapping[str, Any]) -> Iterator[tuple[str, JobRecord]]:
    """Yield the entries of dvc.lock as records; entries of an unknown form are skipped."""
    for name, entry in stages.items():
        with suppress(LookupError, TypeError, AttributeError):
            yield str(name), _parse_entry(name, entry)


def _parse_entry(name: str, entry: dict[str, Any]) -> JobRecord:
    params = {
        key if file == str(PARAMS) else f"{file}:{key}": value
        for file, values in entry.get("params", {}).items()
        for key, value in values.items()
    }
    deps = {dep["path"]: dep.get("md5", "") for dep in entry.get("deps", [])}
    outs = {
        out["path"]: Content(out.get("md5", ""), out.get("size", 0), out.get("nfiles"))
        for out in entry.get("outs", [])
    }
    return JobRecord(name, JobInputs(entry["cmd"], params, deps), outs)


def _dump(content: Any) -> str:
    """Return YAML formatted as by DVC, so that neither tool changes the other's text."""
    writer = YAML()
    writer.default_flow_style = False
    stream = io.StringIO()
    writer.dump(content, stream)
    return stream.getvalue()
