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
    plain = os.environ.get("CARBENCH_PROGRESS") == "plain" or not sys.stderr.isatty()
    return tqdm(items, desc=what, total=total, disable=plain, leave=False)
