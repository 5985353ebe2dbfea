"""Opens the source that the `data:` section names.

A source is a module of this package, found by its name, with a context manager
``open_source(params, scratch)`` that yields a :class:`~carbench.data.sources.listing.Listing`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path

from carbench.data.sources.listing import Listing
from carbench.params.data import DataParams


def open_source(params: DataParams, scratch: Path) -> AbstractContextManager[Listing]:
    """Return a context manager that yields the files of the source.

    Args:
        params: the `data:` section.
        scratch: an empty folder for generated files; the caller removes it.
    """
    source = import_module(f"carbench.data.sources.{params.source}")
    opened: AbstractContextManager[Listing] = source.open_source(params, scratch)
    return opened
