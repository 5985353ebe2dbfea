"""The extras of the package: what each requires, and which one lacks a module.

``pip install carbench`` installs what serves an exported model. A study needs the extras in
:data:`STUDY_EXTRAS`, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from carbench.core.errors import CarbenchError

STUDY_EXTRAS = ("train", "engines")


def required_packages(extra: str = "") -> list[str]:
    """Return the normalized names of the packages that an extra adds to the core.

    Args:
        extra: name of the extra; empty for the core itself.

    Raises:
        PackageNotFoundError: carbench is not installed, for example in a conda environment.
    """
    requirements = [Requirement(text) for text in requires("carbench") or []]
    return [
        canonicalize_name(each.name)
        for each in requirements
        if _applies(each, extra) and (not extra or not _applies(each, ""))
    ]


def explain_missing_module(
    error: ModuleNotFoundError, where: str, extras: Sequence[str] = STUDY_EXTRAS
) -> CarbenchError | None:
    """Return an error that names the extra to install; None if no extra requires the module.

    Args:
        error: the failed import.
        where: what imported it: the command or the stage.
        extras: the extras that may require it; the first one that does is named.
    """
    module = canonicalize_name((error.name or "").partition(".")[0])
    try:
        extra = next((each for each in extras if module in required_packages(each)), None)
    except PackageNotFoundError:
        return None
    if extra is None:
        return None
    return CarbenchError(
        where,
        found=f"no package {module}",
        expected=f"the extra `{extra}`",
        fix=f"pip install 'carbench[{extra}]'",
    )


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})
