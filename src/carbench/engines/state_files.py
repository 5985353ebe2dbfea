"""What is remembered to save time, in JSON files below ``.carbench``: never needed, never trusted.

Each file carries the version of its form. One of another version, cut short, or with any other
content counts as not there, and is written again.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from carbench.core.atomic import write_atomic

log = logging.getLogger("carbench")

Form = TypeVar("Form")


def read_state(path: Path, version: int, form: TypeAdapter[Form]) -> Form | None:
    """Return what a file holds; None if it is missing or of another version or form.

    Args:
        path: the file.
        version: of the form, raised whenever that changes.
        form: checks that the content has its type.
    """
    try:
        document = json.loads(path.read_bytes())
        if document["version"] != version:
            return None
        content: Form = form.validate_python(document["content"])
        return content
    except (OSError, ValueError, LookupError, TypeError, RecursionError, ValidationError):
        return None


def write_state(path: Path, version: int, content: Any) -> None:
    """Write a file, complete or not at all; a failure costs time, not truth."""
    try:
        write_atomic(path, json.dumps({"version": version, "content": content}, default=str))
    except OSError as error:
        log.warning("%s: %s; carbench goes on without it", path, error.strerror or error)
