"""Test whether attribution maps find the regions that matter, by hiding these and predicting again.

Run from the repository's root after a study: `python benchmarks/explanations.py`. For the first
seed of every backbone, the hottest fifth of each clean test image (13 of 8 x 8 squares) is painted
in the image's mean colour. Prints by how much that lowers the probability of the predicted class on
average, for each attribution method. A method that does no better than random squares, or than the
centre of the image, explains nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from captum.attr import (
    InputXGradient,
    LayerGradCam,
    LayerGradientXActivation,
    Saliency,
)
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from carbench.core.params import lookup, read_yaml
from carbench.data.loading.batches import Normalizer, PackedImages
from carbench.data.pack.reading import find_rows
from carbench.data.split.table import read_split
from carbench.evaluation.attribution import feature_map_stage
from carbench.models.backbones import load_trained_model

RESULTS = Path("results")
SQUARES, HIDDEN = 8, 13
CPU = torch.device("cpu")


def ways(model: nn.Module, inputs: Tensor, classes: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the maps (N, rows, columns) of each attribution method."""
    count = len(inputs)
    yield "random", torch.rand(count, SQUARES, SQUARES)
    line = torch.linspace(-1, 1, SQUARES)
    yield "centre", (2 - line[:, None] ** 2 - line**2).expand(count, SQUARES, SQUARES)
    used = feature_map_stage(model, inputs[:1])
    last = model.feature_info[-1]["module"]
    for name in dict.fromkeys([last, used[0]] if used else []):
        layer = model.get_submodule(name)
        where = "used" if used and name == used[0] else "last"
        cam = LayerGradCam(model, layer).attribute(inputs, target=classes)
        yield f"Grad-CAM, {where} stage", cam.detach().sum(1)
        parts = LayerGradientXActivation(model, layer).attribute(inputs, target=classes)
        yield f"HiResCAM, {where} stage", parts.detach().sum(1)
    pixels = inputs.clone().requires_grad_()
    yield "gradients", Saliency(model).attribute(pixels, target=classes).detach().amax(1)
    parts = InputXGradient(model).attribute(pixels, target=classes)
    yield "pixels times gradients", parts.detach().sum(1)


def hide_hottest(images: Tensor, maps: Tensor) -> Tensor:
    """Paint the hottest squares of (N, 3, S, S) images in each image's mean colour."""
    size = images.shape[-1]
    if min(maps.shape[1:]) >= size:
        heat = adaptive_avg_pool2d(maps, SQUARES).relu()
    else:
        large = interpolate(maps[:, None].relu(), (size, size), mode="bilinear")[:, 0]
        heat = adaptive_avg_pool2d(large, SQUARES)
    # Ties between squares, as in an empty map, are broken at random.
    heat = heat + 1e-9 * heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-20) * torch.rand(
        heat.shape
    )
    hottest = heat.flatten(1).topk(HIDDEN, dim=1).indices
    hidden = torch.zeros(len(maps), SQUARES**2).scatter(1, hottest, 1)
    mask = interpolate(hidden.view(-1, 1, SQUARES, SQUARES), (size, size), mode="nearest")
    return torch.where(mask > 0, images.mean(dim=(2, 3), keepdim=True), images)


def main() -> None:
    """Print one line per method and backbone."""
    params = read_yaml(Path("params.yaml"))
    seed = lookup(params, "seeds", Path("params.yaml"))[0]
    tested = read_split(RESULTS / "split/split.csv", seed).of_split("test")
    rows = find_rows(RESULTS / "pack", tested.images[~tested.leaked])
    for backbone in lookup(params, "backbones", Path("params.yaml")):
        model, card = load_trained_model(
            RESULTS / f"train/{backbone}/{seed}/model.safetensors", CPU
        )
        (shown,) = PackedImages(RESULTS / "pack", rows, CPU).whole_images(
            [torch.arange(len(rows))], card.image_size
        )
        normalize = Normalizer(card.mean, card.std, CPU)
        inputs = normalize(shown)
        with torch.inference_mode():
            before, classes = model(inputs).softmax(1).max(dim=1)
        torch.manual_seed(0)
        for name, maps in ways(model, inputs, classes.clone()):
            with torch.inference_mode():
                after = model(normalize(hide_hottest(shown, maps))).softmax(1)
            lost = before - after.gather(1, classes[:, None])[:, 0]
            print(f"{backbone:>14}  {name:<24} {lost.mean():.2f} of {before.mean():.2f}")


if __name__ == "__main__":
    main()
