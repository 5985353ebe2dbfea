"""The engine versions whose internals carbench uses, and the error for any other version.

Only :mod:`carbench.engines.snakemake_internals` and :mod:`carbench.engines.dvc_internals` use
undocumented parts of the engines. Both engines are pinned in pyproject.toml. After an upgrade,
tests/test_engine_internals.py shows what changed; at run time an incompatible version is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from carbench.core.errors import CarbenchError

SNAKEMAKE = "9.27.1"
DVC = "3.67.1"


@contextmanager
def checked_internals(engine: str) -> Iterator[None]:
    """Convert errors caused by changed internals of an engine.

    Raises:
        CarbenchError: names the installed version and the supported one.
    """
    try:
        yield
    except (AttributeError, ImportError, LookupError, TypeError, ValueError) as error:
        raise incompatible_version(engine, f"{type(error).__name__}: {error}") from error


def incompatible_version(engine: str, symptom: str) -> CarbenchError:
    """Return the error for an engine whose internals differ from those of the pinned version."""
    supported = {"snakemake": SNAKEMAKE, "dvc": DVC}[engine]
    return CarbenchError(
        f"{engine} {version(engine)}",
        found=f"unknown internals ({symptom})",
        expected=f"those of version {supported}",
        fix="install the versions of requirements.lock: `make setup`",
    )
