"""Weights on disk: safetensors with one JSON document beside the tensors.

The document is a single metadata entry because safetensors writes several in random order, which
would make equal weights differ in bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from carbench.errors import CarbenchError

if TYPE_CHECKING:
    from torch import Tensor

ENTRY = "carbench"


def save_checkpoint(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors (any may be missing: a random start has none) and what is known of them."""
    # The numpy writer needs no torch, which a random start would otherwise have to load.
    from safetensors.numpy import save_file as save_nothing

    metadata = {ENTRY: json.dumps(about, ensure_ascii=False)}
    if not tensors:
        save_nothing({}, path, metadata)
        return
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, metadata)


def read_about(path: Path) -> dict[str, Any]:
    """Return the document of a checkpoint without reading its tensors."""
    try:
        with safe_open(path, framework="numpy") as file:
            about: dict[str, Any] = json.loads(file.metadata()[ENTRY])
            return about
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors, on the CPU."""
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> CarbenchError:
    return CarbenchError(
        path,
        found=f"no readable checkpoint ({' '.join(str(error).split())})",
        expected="a safetensors file that carbench wrote",
        fix="delete it and run again",
    )
