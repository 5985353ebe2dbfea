"""Weights on disk: safetensors with one JSON document beside the tensors.

The document is a single metadata entry because safetensors writes several in random order, which
would make equal weights differ in bytes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from carbench.core.errors import CarbenchError
from carbench.core.tables import damaged, missing

if TYPE_CHECKING:
    from torch import Tensor

ENTRY = "carbench"


def save_checkpoint(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors (any may be missing: a random start has none) and what is known of them."""
    # The numpy writer needs no torch, which a random start would otherwise have to load.
    from safetensors.numpy import save_file as save_nothing

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    document = about | {"tensors_sha256": _digest(contiguous)}
    metadata = {ENTRY: json.dumps(document, ensure_ascii=False)}
    if contiguous:
        from safetensors.torch import save_file

        save_file(contiguous, path, metadata)
    else:
        save_nothing({}, path, metadata)
    path.chmod(0o644)  # safetensors leaves its files to their owner alone


def read_about(path: Path) -> dict[str, Any]:
    """Return the document of a checkpoint without reading its tensors."""
    try:
        with safe_open(path, framework="numpy") as file:
            about: dict[str, Any] = json.loads(file.metadata()[ENTRY])
            return about
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None


def is_pretrained(path: Path) -> bool:
    """Say whether what stage weights wrote are trained weights, rather than a random start."""
    return bool(read_about(path)["start"] != "random")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors, on the CPU; damaged ones are refused."""
    from safetensors.torch import load_file

    expected = read_about(path)["tensors_sha256"]
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None
    if _digest(tensors) != expected:
        raise _unreadable(path, ValueError("its tensors are not those that were saved"))
    return tensors


def _digest(tensors: dict[str, Tensor]) -> str:
    """The sha256 of names and bytes: safetensors itself does not notice a changed byte."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.flatten().view(dtype=_uint8()).numpy().tobytes())
    return digest.hexdigest()


def _uint8() -> Any:
    import torch

    return torch.uint8


def _unreadable(path: Path, error: Exception) -> CarbenchError:
    if not path.exists():
        return missing(path)
    return damaged(path, f"no readable checkpoint ({' '.join(str(error).split())})")
