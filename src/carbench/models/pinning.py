"""Pins trained weights: which commit of the hub's repository, and which content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from carbench.core.errors import CarbenchError
from carbench.core.params import read_yaml
from carbench.models.hub import newest
from carbench.params.train import WeightsHub

UNPINNED = "pretrained"


def refuse_unpinned(weights: object, backbone: str, path: Path) -> None:
    """Raise :class:`CarbenchError` if a backbone's weights name no content."""
    if weights == UNPINNED:
        raise CarbenchError(
            path,
            key=f"backbones.{backbone}.weights",
            found=f"{UNPINNED!r}, which may be other weights tomorrow",
            expected="{hub: OWNER/NAME, revision: COMMIT, sha256: HEX}",
            fix="run `carbench pin`, which asks the hub and writes that into params.yaml",
        )


def pin_all(path: Path) -> dict[str, WeightsHub]:
    """Replace every ``weights: pretrained`` in a parameter file; nothing else in it changes.

    Returns:
        The new pins by backbone.

    Raises:
        CarbenchError: the file cannot be read, or the hub not asked; the file is as it was.
    """
    read_yaml(path)
    text = path.read_text(encoding="utf-8")
    backbones: Any = YAML().load(text)["backbones"]
    lines = text.splitlines(keepends=True)
    pins = {}
    for name, backbone in backbones.items():
        if backbone["weights"] == UNPINNED:
            key = f"backbones.{name}.weights"
            pins[name] = newest(repository_of(backbone["model"], key), key)
            line, column = backbone.lc.value("weights")
            before, after = lines[line][:column], lines[line][column:]
            lines[line] = before + after.replace(UNPINNED, as_yaml(pins[name]), 1)
    path.write_text("".join(lines), encoding="utf-8")
    return pins


def as_yaml(pin: WeightsHub) -> str:
    """Return a pin as a value for params.yaml."""
    return "{" + ", ".join(f"{key}: {value}" for key, value in pin.model_dump().items()) + "}"


def repository_of(model: str, key: str) -> str:
    """Return the repository that timm takes a model's trained weights from."""
    import timm

    config = timm.get_pretrained_cfg(model) if timm.is_model(model) else None
    repository = config.hf_hub_id if config else None
    if not repository:
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"no trained weights of {model} that timm knows of",
            expected="a model with weights on the hub",
            fix="see timm.list_pretrained(), or name a file: weights: {file: PATH, sha256: HEX}",
        )
    return str(repository)
