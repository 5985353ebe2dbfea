"""The names of timm's models, without loading timm, which takes seconds.

A guard for the start of a study: it may refuse a misspelt name early; what makes models asks
timm itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.params.train import BackboneParams

# What registers a model in timm's source.
REGISTERED = re.compile(r"^@register_model\s+def (\w+)\(", re.M)


def known_names() -> set[str]:
    """Return the names that timm's source registers; empty if it cannot be read that way."""
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
        model = backbone.model.partition(".")[0]  # after the dot: timm's tag of the weights
        if known and model not in known:
            raise unknown_model(backbone.model, sorted(known), path, f"backbones.{name}.model")


def unknown_model(model: str, known: list[str], path: Path, key: str) -> CarbenchError:
    """Return the error for a model that timm does not know."""
    close = get_close_matches(model, known, n=3)
    return CarbenchError(
        path,
        key=key,
        found=f"{model!r}",
        expected="a model that timm knows",
        fix=f"write {' or '.join(close)}" if close else "see timm.list_models()",
    )
