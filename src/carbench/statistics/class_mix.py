"""The class mix in deployment: `choose.deployment_mix`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from carbench.core.errors import CarbenchError
from carbench.params.choose import DeploymentMix
from carbench.statistics.jackknife import FloatArray


def class_shares(mix: DeploymentMix, classes: Sequence[str]) -> FloatArray | None:
    """Return (K,) the fraction of each class, or None for the mix of the tested images.

    Raises:
        CarbenchError: the mix has an unknown class or lacks one.
    """
    if mix == "tested":
        return None
    if mix == "equal":
        return np.full(len(classes), 1 / len(classes))
    unknown = [name for name in mix if name not in classes]
    missing = [name for name in classes if name not in mix]
    if unknown or missing:
        found = [f"no class {name!r}" for name in unknown]
        found += [f"no share for {name!r}" for name in missing]
        raise CarbenchError(
            "params.yaml",
            key="choose.deployment_mix",
            found="; ".join(found),
            expected=f"a share for each of {', '.join(classes)}",
            fix="use the names of the class folders; set classes that do not occur to 0.0",
        )
    return np.array([mix[name] for name in classes])


def describe_mix(mix: DeploymentMix) -> str:
    """Return a short description of the mix."""
    if mix == "tested":
        return "the class mix of the clean test images"
    if mix == "equal":
        return "an equal mix of all classes"
    return "a mix of " + ", ".join(f"{100 * share:.3g} % {name}" for name, share in mix.items())
