"""Model files: safetensors with one JSON document as metadata.

The document is a single metadata entry, because safetensors writes several entries in random order,
and the bytes of equal models would differ. safetensors is imported by the functions that need it:
stages import this module before they can report that an extra is not installed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbench.core.errors import CarbenchError
from carbench.core.tables import damaged, missing

if TYPE_CHECKING:
    from torch import Tensor

METADATA_KEY = "carbench"


def save_model(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors (none for a random initialisation) and metadata."""
    # Without tensors, the numpy writer avoids importing torch.
    from safetensors.numpy import save_file as save_numpy

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    document = metadata | {"tensors_sha256": _digest(contiguous)}
    entries = {METADATA_KEY: json.dumps(document, ensure_ascii=False)}
    if contiguous:
        from safetensors.torch import save_file

        save_file(contiguous, path, entries)
    else:
        save_numpy({}, path, entries)
    path.chmod(0o644)  # safetensors creates files that only their owner can read


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a model file without reading its tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, Any] = json.loads(file.metadata()[METADATA_KEY])
            return metadata
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None


def is_pretrained(path: Path) -> bool:
    """Return whether the output of stage weights has pretrained weights."""
    return bool(read_metadata(path)["start"] != "random")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a model file, on the CPU, after verifying their checksum."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    expected = read_metadata(path)["tensors_sha256"]
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None
    if _digest(tensors) != expected:
        raise _unreadable(path, ValueError("its tensors do not match their checksum"))
    return tensors


def _digest(tensors: dict[str, Tensor]) -> str:
    """Return the sha256 of names and bytes; safetensors itself has no checksum."""
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
    return damaged(path, f"no readable model file ({' '.join(str(error).split())})")
