"""JSON files below ``.carbench`` with cached state, which can always be computed again.

Each file contains the version of its format. A file of another version, a truncated one, or one
with unexpected content is ignored and written again.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from carbench.core.atomic import write_atomic

log = logging.getLogger("carbench")

State = TypeVar("State")


def read_state(path: Path, version: int, schema: TypeAdapter[State]) -> State | None:
    """Return the content of a file; None if it is missing, of another version or invalid.

    Args:
        path: the file.
        version: of the format, increased whenever that changes.
        schema: validates the content.
    """
    try:
        return parse_state(path.read_bytes(), version, schema)
    except OSError:
        return None


def write_state(path: Path, version: int, content: Any) -> None:
    """Write a file atomically; if that fails, log a warning and continue without it."""
    try:
        write_atomic(path, format_state(version, content))
    except OSError as error:
        log.warning("%s: %s; continuing without this file", path, error.strerror or error)


def parse_state(text: bytes, version: int, schema: TypeAdapter[State]) -> State | None:
    """Return the content of a file's text; see :func:`read_state`."""
    try:
        document = json.loads(text)
        if document["version"] != version:
            return None
        content: State = schema.validate_python(document["content"])
        return content
    except (ValueError, LookupError, TypeError, RecursionError, ValidationError):
        return None


def format_state(version: int, content: Any) -> bytes:
    """Return the text of a file with this content."""
    return json.dumps({"version": version, "content": content}, default=str).encode()
