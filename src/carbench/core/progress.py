"""Progress of long loops: a bar for a person at a terminal, nothing in logs.

Snakemake runs jobs side by side, where bars would overwrite each other: its Snakefile sets
``CARBENCH_PROGRESS=plain``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, total: int | None = None) -> Iterable[Item]:
    """Yield ``items`` behind a bar named ``what``, if a person can see it."""
    return tqdm(items, desc=what, total=total, disable=not is_visible(), leave=False)


def is_visible() -> bool:
    """Whether there is a person at a terminal to see a bar."""
    return os.environ.get("CARBENCH_PROGRESS") != "plain" and sys.stderr.isatty()
