"""Attribution maps: what in an image contributes to the score of a class, computed with captum.

If the backbone ends in a sufficiently fine feature map: HiResCAM (Draelos and Carin,
arXiv:2011.08891), the values of that map times the gradients of the class logit, summed over the
channels, without negative sums. If average pooling follows, as in most backbones, this is Grad-CAM
(Selvaraju et al., ICCV 2017) up to scale.

Otherwise (small images, vision transformers): the pixels times their gradients, averaged over small
squares. docs/evaluation.md describes how well the maps work, and their limitations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from captum.attr import InputXGradient, LayerGradientXActivation
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

# A map with fewer rows or columns is too coarse. The last stage of most backbones has 2 x 2 cells
# at 48 pixels, 5 x 5 at 160, 7 x 7 at 224.
MIN_CELLS = 5
# Number of squares per side over which pixel attributions are averaged.
SQUARES = 14


def attribution_maps(
    model: nn.Module, inputs: Tensor, classes: Tensor, batch_size: int
) -> tuple[NDArray[np.uint8], str]:
    """Return the attribution map of a class for each image, and the method.

    Args:
        model: a timm model that is ready to predict.
        inputs: (M, 3, S, S) float32, normalised; M is at least 1.
        classes: (M,) int64, on the device of the inputs: the class to explain for each.
        batch_size: images per batch.

    Returns:
        (M, S, S) uint8 maps, with a maximum of 255, or all 0 without any positive attribution; and
        a readable name of the method.
    """
    attribute: Callable[[Tensor, Tensor], Tensor]
    if (stage := feature_map_stage(model, inputs[:1])) is None:
        method = "pixels times gradients"
        attribute = partial(_by_pixels, InputXGradient(model))
    else:
        name, channels = stage
        method = f"HiResCAM of {name}"
        layer = LayerGradientXActivation(model, model.get_submodule(name))
        attribute = partial(_by_stage, layer, channels)
    maps = [
        _spread(attribute(*batch), inputs.shape[-1])
        for batch in zip(inputs.split(batch_size), classes.split(batch_size), strict=True)
    ]
    return torch.cat(maps).cpu().numpy(), method


@torch.inference_mode()
def feature_map_stage(model: nn.Module, image: Tensor) -> tuple[str, int] | None:
    """Return the last stage if its output is a feature map of at least ``MIN_CELLS`` per side.

    Args:
        model: model whose stages timm lists in ``feature_info``.
        image: (1, 3, S, S), normalised.

    Returns:
        The name of the submodule and the channel axis of its output, (B, channels, rows, columns)
        or (B, rows, columns, channels); None if it has no such output.
    """
    stages: Sequence[dict[str, Any]] = getattr(model, "feature_info", ())
    if not stages or stages[-1]["module"] not in dict(model.named_modules()):
        return None
    name, count = stages[-1]["module"], stages[-1]["num_chs"]
    outputs: list[object] = []
    stage = model.get_submodule(name)
    hook = stage.register_forward_hook(lambda module, taken, given: outputs.append(given))
    try:
        model(image)
    finally:
        hook.remove()
    output = outputs[-1] if outputs else None  # some models call only the submodules of the stage
    if isinstance(output, Tensor) and output.ndim == 4:
        for channels, cells in ((1, output.shape[2:]), (3, output.shape[1:3])):
            if output.shape[channels] == count and min(cells) >= MIN_CELLS:
                return name, channels
    return None


def _by_stage(
    method: LayerGradientXActivation, channels: int, inputs: Tensor, classes: Tensor
) -> Tensor:
    parts: Tensor = method.attribute(inputs, target=classes)
    return parts.detach().sum(dim=channels)


def _by_pixels(method: InputXGradient, inputs: Tensor, classes: Tensor) -> Tensor:
    parts = method.attribute(inputs.clone().requires_grad_(), target=classes)
    pixels = parts.detach().sum(dim=1)
    return functional.adaptive_avg_pool2d(pixels, min(SQUARES, inputs.shape[-1]))


def _spread(maps: Tensor, size: int) -> Tensor:
    """Upsample (B, rows, columns) to (B, size, size) uint8; the maximum of each becomes 255."""
    heat = functional.interpolate(maps.relu()[:, None], (size, size), mode="bilinear")[:, 0]
    hottest = heat.amax(dim=(1, 2), keepdim=True)
    shares = torch.where(hottest > 0, heat / hottest, 0)
    return (255 * shares).round().to(torch.uint8).contiguous()
