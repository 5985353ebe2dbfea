"""Pins the pretrained weights of backbones to a commit and a checksum on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from carbench.core.errors import CarbenchError
from carbench.core.params import read_yaml
from carbench.models.hub import newest_pin
from carbench.params.train import WeightsHub

UNPINNED = "pretrained"


def refuse_unpinned(weights: object, backbone: str, path: Path) -> None:
    """Raise :class:`CarbenchError` if the weights of a backbone are not pinned."""
    if weights == UNPINNED:
        raise CarbenchError(
            path,
            key=f"backbones.{backbone}.weights",
            found=f"{UNPINNED!r}, which is not pinned to a version",
            expected="{hub: OWNER/NAME, revision: COMMIT, sha256: HEX}",
            fix="run `carbench pin`, which queries the hub and writes the pin into params.yaml",
        )


def pin_backbones(path: Path) -> dict[str, WeightsHub]:
    """Replace every ``weights: pretrained`` in a parameter file by a pin; nothing else changes.

    Returns:
        The new pins, by backbone.

    Raises:
        CarbenchError: the file cannot be read, or the hub cannot be queried; the file is unchanged.
    """
    read_yaml(path)
    text = path.read_text(encoding="utf-8")
    backbones: Any = YAML().load(text)["backbones"]
    lines = text.splitlines(keepends=True)
    pins = {}
    for name, backbone in backbones.items():
        if backbone["weights"] == UNPINNED:
            key = f"backbones.{name}.weights"
            pins[name] = newest_pin(repository_of(backbone["model"], key), key)
            line, column = backbone.lc.value("weights")
            before, after = lines[line][:column], lines[line][column:]
            lines[line] = before + after.replace(UNPINNED, pin_as_yaml(pins[name]), 1)
    path.write_text("".join(lines), encoding="utf-8")
    return pins


def pin_as_yaml(pin: WeightsHub) -> str:
    """Return a pin as a value for params.yaml."""
    return "{" + ", ".join(f"{key}: {value}" for key, value in pin.model_dump().items()) + "}"


def repository_of(model: str, key: str) -> str:
    """Return timm's repository of the pretrained weights of a model."""
    import timm

    config = timm.get_pretrained_cfg(model) if timm.is_model(model) else None
    repository = config.hf_hub_id if config else None
    if not repository:
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"no pretrained weights of {model} in timm",
            expected="a model with weights on the hub",
            fix="see timm.list_pretrained(), or name a file: weights: {file: PATH, sha256: HEX}",
        )
    return str(repository)
