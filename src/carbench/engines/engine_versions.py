"""What carbench uses of the engines beyond what they document, whichever engine it is.

:mod:`carbench.engines.snakemake_internals` and :mod:`carbench.engines.dvc_internals` are all that
know them from the inside. Both are pinned in pyproject.toml; tests/test_internals.py says what
incompatible_version when one is raised, and a sentence says so where another version is installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from carbench.core.errors import CarbenchError

# What these modules were written against.
SNAKEMAKE = "9.27.1"
DVC = "3.67.1"


@contextmanager
def checked_internals(engine: str) -> Iterator[None]:
    """Turn what a changed interior of an engine raises into a sentence.

    Raises:
        CarbenchError: names the installed version and the one that this was written against.
    """
    try:
        yield
    except (AttributeError, ImportError, LookupError, TypeError, ValueError) as error:
        raise incompatible_version(engine, f"{type(error).__name__}: {error}") from error


def incompatible_version(engine: str, what: str) -> CarbenchError:
    """Return the error that an engine works otherwise than it did, with what shows it."""
    written = {"snakemake": SNAKEMAKE, "dvc": DVC}[engine]
    return CarbenchError(
        f"{engine} {version(engine)}",
        found=f"an interior that carbench does not know ({what})",
        expected=f"that of {written}, to tell it what is current",
        fix="install the versions of requirements.lock: `make setup`",
    )


@contextmanager
def inside(root: Path) -> Iterator[None]:
    """Work in ``root``, as a person who types the engine's command does."""
    before = Path.cwd()
    os.chdir(root)
    try:
        yield
    finally:
        os.chdir(before)
