"""Names of timm models, read without importing timm, which takes seconds.

Used to reject misspelt names at the start of a study; the code that creates models uses timm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.params.train import BackboneParams

# The registration of a model in timm's source.
REGISTERED = re.compile(r"^@register_model\s+def (\w+)\(", re.M)


def known_names() -> set[str]:
    """Return the model names registered in timm's source; empty if they cannot be read."""
    spec = find_spec("timm")
    folders = (spec.submodule_search_locations if spec else None) or []
    return {
        name
        for folder in folders
        for file in Path(folder, "models").glob("*.py")
        for name in REGISTERED.findall(file.read_text(encoding="utf-8"))
    }


def refuse_unknown(backbones: Mapping[str, BackboneParams], path: Path) -> None:
    """Raise :class:`CarbenchError` for the first backbone whose model timm does not register."""
    known = known_names()
    for name, backbone in backbones.items():
        model = backbone.model.partition(".")[0]  # without timm's tag of the weights
        if known and model not in known:
            raise unknown_model(backbone.model, sorted(known), path, f"backbones.{name}.model")


def unknown_model(model: str, known: list[str], path: Path, key: str) -> CarbenchError:
    """Return the error for an unknown model name."""
    close = get_close_matches(model, known, n=3)
    return CarbenchError(
        path,
        key=key,
        found=f"{model!r}",
        expected="the name of a timm model",
        fix=f"write {' or '.join(close)}" if close else "see timm.list_models()",
    )
