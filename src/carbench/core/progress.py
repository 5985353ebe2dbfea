"""Progress bars for long loops, shown in a terminal but not in logs.

Snakemake runs jobs in parallel, whose bars would overwrite each other: the Snakefile sets
``CARBENCH_PROGRESS=plain``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """Iterate over ``items`` with a progress bar, if it is visible."""
    return tqdm(items, desc=description, total=total, disable=not is_visible(), leave=False)


def is_visible() -> bool:
    """Return whether stderr is a terminal and progress bars are enabled."""
    return os.environ.get("CARBENCH_PROGRESS") != "plain" and sys.stderr.isatty()
