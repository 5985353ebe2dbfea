"""Fetches pretrained weights: a local file, or a pinned file from the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbench.core.errors import CarbenchError
from carbench.core.provenance import file_hash
from carbench.models.hub import fetch_pinned
from carbench.params.train import BackboneParams, WeightsFile, WeightsHub

if TYPE_CHECKING:
    from torch import Tensor


def fetch_weights(
    params: BackboneParams, key: str, cache: Path | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return pretrained tensors and a description of their origin.

    For weights from the hub, the description has the ``mean`` and ``std`` of their normalisation.

    Args:
        params: the model and its weights.
        key: key of the weights in params.yaml, for error messages.
        cache: folder for downloads; None: the hub client's own cache.

    Raises:
        CarbenchError: the weights are missing, unreadable, of another model, or not the pinned
            ones; or the hub cannot be reached.
    """
    if isinstance(params.weights, WeightsFile):
        return _from_file(params.weights, key)
    if isinstance(params.weights, WeightsHub):
        return _from_hub(params.weights, params.model, key, cache)
    raise ValueError(f"{params.weights!r} is not pinned")


def _from_file(weights: WeightsFile, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    path = Path(weights.file).expanduser()
    if not path.is_file():
        raise CarbenchError(
            path, key=key, found="nothing", expected="a checkpoint", fix=f"correct {key}.file"
        )
    digest = file_hash(path)
    if digest != weights.sha256:
        raise CarbenchError(
            path,
            key=f"{key}.sha256",
            found=f"content with sha256 {digest}",
            expected=weights.sha256,
            fix="restore the pinned checkpoint, or pin this one if you trust it",
        )
    return _read_state_dict(path, key), {"start": "file", "sha256": digest}


def _from_hub(
    weights: WeightsHub, model: str, key: str, cache: Path | None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    fetched = fetch_pinned(weights, key, cache)
    try:
        config = json.loads(fetched.config.read_text(encoding="utf-8"))
        architecture = str(config["architecture"])
        inputs = config.get("pretrained_cfg", config)  # older repositories have a single level
        mean, std = ([float(value) for value in inputs[name]] for name in ("mean", "std"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CarbenchError(
            fetched.config,
            key=key,
            found=f"no description of a timm model ({type(error).__name__}: {error})",
            expected="architecture, mean and std in timm's format",
            fix="delete the file and run again, or use a repository in timm's format",
        ) from None
    if architecture != model.partition(".")[0]:
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"weights of {architecture} in {weights.hub}",
            expected=f"weights of {model}",
            fix="correct the backbone's `model:` or its `weights:`",
        )
    origin = {"start": "hub", **weights.model_dump(), "mean": mean, "std": std}
    return _read_state_dict(fetched.weights, key), origin


def _read_state_dict(path: Path, key: str) -> dict[str, Tensor]:
    # Imported after the checksum is verified, because torch and timm take seconds.
    from timm.models import load_state_dict

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
    return tensors
