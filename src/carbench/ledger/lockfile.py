"""dvc.lock, read and written in its documented format (schema 2.0), without loading DVC.

Reading a large one as YAML takes seconds; what was read is therefore remembered in
``.carbench/dvc-lock.json`` for as long as the file's md5 is the same. Writing replaces the text of
the jobs that changed and leaves the rest as it is.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from carbench.errors import CarbenchError
from carbench.ledger.definition import PARAMS, JobSpec
from carbench.ledger.hashing import Content
from carbench.ledger.receipts import Ingredients, Receipt, receipt_from
from carbench.ledger.whole import write_whole

log = logging.getLogger("carbench")

LOCK = Path("dvc.lock")
MEMORY = Path(".carbench/dvc-lock.json")
BLOCK = re.compile(r"^  (\S.*):\n", re.MULTILINE)
HEAD = "schema: '2.0'\nstages:\n"


@dataclass(frozen=True)
class Lock:
    """What dvc.lock says of every job, as receipts without a time.

    ``whole`` is False if DVC was killed while it wrote the file: it empties the file first. The
    entries are then those that were read last before.
    """

    entries: Mapping[str, Receipt]
    whole: bool


def read_lock(root: Path = Path()) -> Lock:
    """Read dvc.lock; no entries if there is none.

    Raises:
        CarbenchError: the file has conflicts of a merge.
    """
    path = root / LOCK
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return Lock({}, True)
    md5 = hashlib.md5(text, usedforsecurity=False).hexdigest()
    memory = _memory(root)
    if memory.get("md5") == md5:
        return Lock(_receipts(memory["entries"]), True)
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
        content = YAML(typ="safe").load(text)
        entries = {name: asdict(_receipt(name, each)) for name, each in content["stages"].items()}
    except (YAMLError, ValueError, TypeError, KeyError, AttributeError):
        log.warning("dvc.lock was cut short by a kill; what is current is put into it anew")
        return Lock(_receipts(memory.get("entries", {})), False)
    write_whole(root / MEMORY, json.dumps({"md5": md5, "entries": entries}))
    return Lock(_receipts(entries), True)


def write_lock(
    root: Path, receipts: Mapping[str, tuple[JobSpec, Receipt, Mapping[str, Content]]], whole: bool
) -> None:
    """Put jobs into dvc.lock, complete or not at all.

    Args:
        root: the repository.
        receipts: by name, the job, what it made from what, and the content of what it depends on.
        whole: whether what the file says of other jobs can be kept.
    """
    path = root / LOCK
    text = path.read_text(encoding="utf-8") if whole and path.exists() else HEAD
    blocks = _blocks(text)
    for name, (job, receipt, deps) in receipts.items():
        blocks[name] = _dump({"stages": {name: _entry(job, receipt, deps)}}).partition("\n")[2]
    if not blocks:  # DVC takes no file, but not an empty list of stages
        path.unlink(missing_ok=True)
        return
    head = text[: text.index("stages:\n") + len("stages:\n")] if "stages:\n" in text else HEAD
    write_whole(path, head + "".join(blocks.values()))


def _blocks(text: str) -> dict[str, str]:
    """The text of every job below ``stages:``, by name."""
    start = text.find("stages:\n")
    body = text[start + len("stages:\n") :] if start >= 0 else ""
    starts = [each.start() for each in BLOCK.finditer(body)]
    ends = [*starts[1:], len(body)][: len(starts)]
    parts = [body[start:end] for start, end in zip(starts, ends, strict=True)]
    return {part.partition(":\n")[0].strip(" '\""): part for part in parts}


def _entry(job: JobSpec, receipt: Receipt, deps: Mapping[str, Content]) -> dict[str, Any]:
    params = receipt.ingredients.params
    entry: dict[str, Any] = {
        "cmd": job.command,
        "deps": [_file(path, deps[path]) for path in sorted(job.deps)],
        "params": {str(PARAMS): {key: params[key] for key in sorted(params)}},
        "outs": [_file(path, receipt.outs[path]) for path in sorted(job.outs)],
    }
    return entry


def _file(path: str, content: Content) -> dict[str, Any]:
    entry = {"path": path, "hash": "md5", "md5": content.md5, "size": content.size}
    return entry if content.nfiles is None else entry | {"nfiles": content.nfiles}


def _receipt(name: str, entry: dict[str, Any]) -> Receipt:
    params = entry.get("params", {}).get(str(PARAMS), {})
    deps = {each["path"]: each.get("md5", "") for each in entry.get("deps", [])}
    outs = {
        each["path"]: Content(each.get("md5", ""), each.get("size", 0), each.get("nfiles"))
        for each in entry.get("outs", [])
    }
    return Receipt(name, Ingredients(entry["cmd"], params, deps), outs, "")


def _dump(content: Any) -> str:
    """YAML as DVC writes it, so that neither changes what the other wrote."""
    writer = YAML()
    writer.default_flow_style = False
    stream = io.StringIO()
    writer.dump(content, stream)
    return stream.getvalue()


def _memory(root: Path) -> dict[str, Any]:
    try:
        memory: dict[str, Any] = json.loads((root / MEMORY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return memory


def _receipts(entries: Mapping[str, Any]) -> dict[str, Receipt]:
    return {name: receipt_from(document) for name, document in entries.items()}
