"""What in a picture speaks for a class: a heat map, made by captum.

Grad-CAM (Selvaraju et al., ICCV 2017) where the backbone has a map of features: the channels of
one of its stages, each weighted by the mean gradient of the class's logit, summed, negative parts
left out. Where it has none (the tokens of a vision transformer), the size of the gradient at the
pixels (Simonyan et al., ICLR workshop 2014), averaged over small squares.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from captum.attr import LayerGradCam, Saliency
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

# A stage with fewer rows or columns cannot tell one place from another: at 48 pixels the last
# stage of most backbones has 2 x 2 cells.
MIN_CELLS = 4
# Squares to a side that pixel gradients are averaged over.
SALIENCY_CELLS = 14


def explain(
    model: nn.Module, inputs: Tensor, classes: Tensor, batch_size: int
) -> tuple[NDArray[np.uint8], str]:
    """Return what speaks for a class in each picture, and how that was found.

    Args:
        model: a timm model that is ready to predict.
        inputs: (M, 3, S, S) float32, normalised; M is at least 1.
        classes: (M,) int64, on the inputs' device: the class to explain of each.
        batch_size: pictures at a time.

    Returns:
        (M, S, S) uint8, 255 where most speaks for the class, all 0 where nothing does; and the
        method, for a person.
    """
    stage = mapped_stage(model, inputs[:1])
    attribute: Callable[[Tensor, Tensor], Tensor]
    if stage is None:
        method = "pixel gradients"
        attribute = partial(_saliency, Saliency(model))
    else:
        method = f"Grad-CAM of {stage}"
        attribute = partial(_grad_cam, LayerGradCam(model, model.get_submodule(stage)))
    maps = [
        _spread(attribute(*batch), inputs.shape[-1])
        for batch in zip(inputs.split(batch_size), classes.split(batch_size), strict=True)
    ]
    return torch.cat(maps).cpu().numpy(), method


@torch.inference_mode()
def mapped_stage(model: nn.Module, picture: Tensor) -> str | None:
    """Return the name of the last stage whose output is a map of features fine enough.

    Args:
        model: its stages are those that timm lists in ``feature_info``.
        picture: (1, 3, S, S), normalised.

    Returns:
        A submodule with outputs (B, channels, rows, columns), or None if there is none.
    """
    modules = dict(model.named_modules())
    stages = {info["module"]: info["num_chs"] for info in getattr(model, "feature_info", ())}
    fitting: list[str] = []

    def look(name: str, module: nn.Module, taken: object, given: object) -> None:
        if (
            isinstance(given, Tensor)
            and given.ndim == 4
            and given.shape[1] == stages[name]
            and min(given.shape[2:]) >= MIN_CELLS
        ):
            fitting.append(name)

    hooks = [
        modules[name].register_forward_hook(partial(look, name))
        for name in stages
        if name in modules
    ]
    try:
        model(picture)
    finally:
        for hook in hooks:
            hook.remove()
    return fitting[-1] if fitting else None


def _grad_cam(method: LayerGradCam, inputs: Tensor, classes: Tensor) -> Tensor:
    found: Tensor = method.attribute(inputs, target=classes, relu_attributions=True)
    return found.detach()


def _saliency(method: Saliency, inputs: Tensor, classes: Tensor) -> Tensor:
    gradients = method.attribute(inputs.clone().requires_grad_(), target=classes, abs=True)
    largest = gradients.detach().amax(dim=1, keepdim=True)
    return functional.adaptive_avg_pool2d(largest, min(SALIENCY_CELLS, inputs.shape[-1]))


def _spread(maps: Tensor, size: int) -> Tensor:
    """Enlarge (B, 1, rows, columns) to (B, size, size) uint8; the greatest of each becomes 255."""
    large = functional.interpolate(maps, (size, size), mode="bilinear", align_corners=False)
    large = large[:, 0].contiguous()
    strongest = large.amax(dim=(1, 2), keepdim=True)
    shares = torch.where(strongest > 0, large / strongest, torch.zeros_like(large))
    return (255 * shares).round().to(torch.uint8)
