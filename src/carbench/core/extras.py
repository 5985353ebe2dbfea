"""The extras of the package: what each requires, and which one lacks a module.

``pip install carbench`` installs what serves an exported model. A study needs the extras in
:data:`STUDY_EXTRAS`, too.
"""

from __future__ import annotations

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


def explain_missing_module(error: ModuleNotFoundError, where: str) -> CarbenchError | None:
    """Return an error that names the extra to install; None if no extra requires the module.

    Args:
        error: the failed import.
        where: what imported it: the command or the stage.
    """
    module = canonicalize_name((error.name or "").partition(".")[0])
    try:
        extras = [extra for extra in STUDY_EXTRAS if module in required_packages(extra)]
    except PackageNotFoundError:
        return None
    if not extras:
        return None
    return CarbenchError(
        where,
        found=f"no package {module}",
        expected=f"the extra `{extras[0]}`",
        fix=f"pip install 'carbench[{extras[0]}]'",
    )


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})
