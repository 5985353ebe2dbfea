"""Starting weights that somebody trained: a file of one's own, or timm's from the hub."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import timm
from timm.models import load_state_dict
from torch import Tensor

from carbench.errors import CarbenchError
from carbench.params.train import BackboneParams, WeightsFile


def fetch_start(params: BackboneParams, backbone: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return starting tensors and where they are from.

    Raises:
        CarbenchError: the file is missing, unreadable or not the one that was pinned; the hub
            cannot be reached or has no weights for the model.
    """
    key = f"backbones.{backbone}.weights"
    if isinstance(params.weights, WeightsFile):
        return _from_file(params.weights, key)
    return _from_hub(params.model, key)


def _from_file(weights: WeightsFile, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    path = Path(weights.file).expanduser()
    if not path.is_file():
        raise CarbenchError(
            path, key=key, found="nothing", expected="a checkpoint", fix=f"correct {key}.file"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != weights.sha256:
        raise CarbenchError(
            path,
            key=f"{key}.sha256",
            found=f"content with sha256 {digest}",
            expected=weights.sha256,
            fix="get the checkpoint that was pinned, or pin this one if you trust it",
        )
    try:
        tensors: dict[str, Tensor] = load_state_dict(str(path), use_ema=False)
    except Exception as error:
        raise CarbenchError(
            path,
            key=key,
            found=f"no readable checkpoint ({' '.join(str(error).split())[:200]})",
            expected="a state dict in .safetensors, .pth or .bin",
            fix="save it again with torch.save(model.state_dict(), path)",
        ) from None
    return tensors, {"start": "file", "sha256": digest}


def _from_hub(model: str, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        made: Any = timm.create_model(model, pretrained=True)
    except Exception as error:
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"'pretrained', but {model}'s weights could not be had "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            expected="weights on the hub, or in its local cache",
            fix="check the network and the model's name, or name a checkpoint of your own with "
            "weights: {file: PATH, sha256: HEX}",
        ) from None
    config: dict[str, Any] = made.pretrained_cfg
    origin = config.get("hf_hub_id") or config.get("url")
    return made.state_dict(), {"start": "pretrained", "source": origin}
