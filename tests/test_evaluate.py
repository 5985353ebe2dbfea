"""Outputs of evaluate besides accuracy: corruptions, slices, calibration, explanations."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from captum.attr import LayerGradCam
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from carbench.evaluation.attribution import MIN_CELLS, attribution_maps, feature_map_stage
from carbench.evaluation.confident_errors import most_confident_errors
from carbench.evaluation.corruptions import CORRUPTIONS, CROP, DARKNESS
from carbench.evaluation.slices import TERCILES, group_by_slice, terciles
from carbench.models.model_file import read_metadata
from carbench.params.evaluate import Corruption
from conftest import Project, run_script


@pytest.fixture(autouse=True)
def as_the_stage_computes() -> Iterator[None]:
    """Use one thread and deterministic algorithms."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def photographs(count: int, side: int) -> torch.Tensor:
    """Return smooth images with sharp edges that look the same at every size."""
    place = torch.linspace(0, 1, side)
    waves = [torch.sin(6 * place[:, None] + 5 * place + number) for number in range(3 * count)]
    pixels = torch.stack(waves).view(count, 3, side, side) * 60 + 128
    pixels[:, :, side // 4 : side // 2, side // 3 : side // 2] = 240
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1)


def roughness(pixels: torch.Tensor) -> float:
    """Return the mean squared difference between neighbouring pixels."""
    values = pixels.float()
    return float(values.diff(dim=1).square().mean() + values.diff(dim=2).square().mean())


def test_every_corruption_of_the_parameters_is_implemented() -> None:
    assert tuple(CORRUPTIONS) == get_args(Corruption)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("side", [24, 56, 240])
def test_corruptions_are_deterministic_and_change_only_a_copy(name: Corruption, side: int) -> None:
    pixels = photographs(3, side)
    before = pixels.clone()
    changed = CORRUPTIONS[name](pixels)
    assert changed.shape == pixels.shape
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, pixels)
    assert torch.equal(pixels, before)
    assert torch.equal(CORRUPTIONS[name](pixels), changed)
    # An image's corruption does not depend on the images beside it.
    assert torch.equal(CORRUPTIONS[name](pixels[1:2]), changed[1:2])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_are_equally_severe_at_every_size(name: Corruption) -> None:
    """A corrupted large image, downscaled, looks like the corrupted small one."""

    def shrunk(pixels: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(pixels.permute(0, 3, 1, 2).float(), pixels.shape[1] // 24)

    small, large = (shrunk(CORRUPTIONS[name](photographs(2, side))) for side in (48, 192))
    untouched = shrunk(photographs(2, 48))
    difference = (small - large).abs().mean()
    assert difference < 6
    assert difference < (small - untouched).abs().mean() + 1


def test_mirroring_twice_restores_the_image() -> None:
    pixels = photographs(2, 48)
    mirrored = CORRUPTIONS["mirror"](pixels)
    assert torch.equal(mirrored[:, :, 0], pixels[:, :, -1])
    assert torch.equal(CORRUPTIONS["mirror"](mirrored), pixels)


def test_darkening_scales_the_pixel_values() -> None:
    pixels = photographs(2, 48)
    dark = CORRUPTIONS["dark"](pixels)
    assert (dark.float() - DARKNESS * pixels.float()).abs().max() <= 0.501


def test_the_crop_keeps_the_lower_right_part() -> None:
    """The upper and left margins are lost, and the rest is enlarged."""
    side = 50
    lost = round((1 - CROP) * side)
    pixels = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    pixels[:, : lost - 1] = 255
    pixels[:, :, : lost - 1] = 255
    assert CORRUPTIONS["crop"](pixels).max() == 0
    pixels = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    pixels[:, lost:, lost:] = 200
    assert CORRUPTIONS["crop"](pixels)[:, 2:, 2:].min() == 200


def test_blur_smooths_edges_and_keeps_the_brightness() -> None:
    for side in (48, 224):
        pixels = photographs(2, side)
        blurred = CORRUPTIONS["blur"](pixels)
        assert roughness(blurred) < 0.5 * roughness(pixels)
        assert abs(float(blurred.float().mean() - pixels.float().mean())) < 1


def test_jpeg_compression_changes_an_image_slightly() -> None:
    for side in (48, 224):
        pixels = photographs(2, side)
        away = (CORRUPTIONS["jpeg"](pixels).float() - pixels.float()).abs()
        assert 0.3 < away.mean() < 8


@given(st.lists(st.integers(1, 50), max_size=60))
def test_terciles_are_ordered_and_of_about_equal_size(areas: list[int]) -> None:
    names = terciles(areas)
    ranks = [TERCILES.index(name.partition(" ")[0]) for name in names]
    assert [rank for _, rank in sorted(zip(areas, ranks, strict=True))] == sorted(ranks)
    for area in set(areas):
        assert len({name for name, own in zip(names, areas, strict=True) if own == area}) <= 1
    most_repeated = max(Counter(areas).values(), default=0)
    for rank in range(3):
        assert ranks.count(rank) <= math.ceil(len(areas) / 3) + most_repeated


def test_slices_contain_every_image_once() -> None:
    rows = [
        {"class": "AB"[number % 2], "width": str(10 + number), "height": "10"}
        for number in range(9)
    ]
    assert {name: len(own) for name, own in group_by_slice(rows, "size").items()} == {
        "small (100 to 120 pixels)": 3,
        "medium (130 to 150 pixels)": 3,
        "large (160 to 180 pixels)": 3,
    }
    assert group_by_slice(rows, "class") == {"A": [0, 2, 4, 6, 8], "B": [1, 3, 5, 7]}


def test_the_most_confident_error_of_each_group_is_listed() -> None:
    def row(image: str, group: int, predicted: str, confidence: str) -> dict[str, object]:
        said = {"image": image, "class": "SUV", "group": group}
        return said | {"predicted": predicted, "confidence": confidence}

    rows = [
        row("right.jpg", 0, "SUV", "0.99"),
        row("unsure.jpg", 1, "Coupe", "0.40"),
        row("b.jpg", 2, "Coupe", "0.90"),
        row("a.jpg", 2, "Coupe", "0.90"),
        row("sure.jpg", 3, "Coupe", "0.95"),
    ]
    assert [each["image"] for each in most_confident_errors(rows, 9)] == [
        "sure.jpg",
        "a.jpg",
        "unsure.jpg",
    ]
    assert [each["image"] for each in most_confident_errors(reversed(rows), 1)] == ["sure.jpg"]
    assert most_confident_errors(rows, 0) == []


class BrightPatch(nn.Module):
    """A model in which bright regions favour class 1, and dark ones class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AvgPool2d(4))
        self.head = nn.Linear(2, 2, bias=False)
        self.feature_info = [{"module": "stage", "num_chs": 2}]
        with torch.no_grad():
            self.stage[0].weight.copy_(
                torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)
            )
            self.stage[0].bias.zero_()
            self.head.weight.copy_(torch.eye(2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.stage(images).mean(dim=(2, 3)))


class BrightPixels(nn.Module):
    """The same without a feature map, as in vision transformers."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([(-images).relu(), images.relu()], dim=1).sum(dim=(2, 3, 4))


@pytest.mark.parametrize("model", [BrightPatch(), BrightPixels()], ids=["map", "no map"])
def test_maps_highlight_the_region_that_decides_the_class(model: nn.Module) -> None:
    images = torch.zeros(3, 3, 32, 32)
    images[:, :, 20:28, 4:12] = 1  # light, lower left
    images[:, :, 4:12, 16:24] = -1  # dark, upper right
    maps, _ = attribution_maps(model, images, torch.tensor([1, 0, 1]), batch_size=2)
    assert maps.shape == (3, 32, 32)
    assert maps.dtype == np.uint8
    light, dark = (slice(20, 28), slice(4, 12)), (slice(4, 12), slice(16, 24))
    for each, hot, cold in ((maps[0], light, dark), (maps[1], dark, light)):
        assert each.max() == 255
        assert each[hot].mean() > 150
        assert each[cold].mean() < 10
    assert np.array_equal(maps[0], maps[2])


def test_a_class_without_evidence_has_an_empty_map() -> None:
    maps, _ = attribution_maps(BrightPatch(), torch.ones(1, 3, 32, 32), torch.tensor([0]), 8)
    assert maps.max() == 0


@pytest.mark.parametrize(
    ("name", "size", "method"),
    [
        ("test_resnet", 160, "HiResCAM of layer4"),
        ("test_efficientnet", 160, "HiResCAM of blocks.4"),
        ("mobilenetv3_small_050", 160, "HiResCAM of blocks.5"),
        ("test_convnext", 160, "HiResCAM of stages.3"),
        ("test_mambaout", 160, "HiResCAM of stages.3"),  # channels last
        ("test_resnet", 48, "pixels times gradients"),
        ("test_vit", 160, "pixels times gradients"),
    ],
)
def test_every_model_family_has_an_attribution_method(name: str, size: int, method: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3).eval()
    images = torch.randn(3, 3, size, size)
    classes = model(images).argmax(dim=1)
    maps, said = attribution_maps(model, images, classes, batch_size=2)
    again, _ = attribution_maps(model, images, classes, batch_size=2)
    assert said == method
    assert maps.shape == (3, size, size)
    assert np.array_equal(maps, again)
    assert maps.max() == 255
    assert all(parameter.grad is None for parameter in model.parameters())


def test_hirescam_equals_grad_cam_before_average_pooling() -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3).eval()
    image, label = torch.randn(1, 3, 224, 224), torch.tensor([2])
    maps, _ = attribution_maps(model, image, label, batch_size=1)
    reference = LayerGradCam(model, model.layer4).attribute(
        image, target=label, relu_attributions=True
    )
    reference = nn.functional.interpolate(reference.detach(), (224, 224), mode="bilinear")[0, 0]
    reference = 255 * reference / reference.max()
    assert np.abs(maps[0] - reference.numpy()).max() < 1


def test_a_feature_map_that_is_too_coarse_is_not_used() -> None:
    model = timm.create_model("test_resnet").eval()
    side = 32 * MIN_CELLS
    assert feature_map_stage(model, torch.zeros(1, 3, side, side)) == ("layer4", 1)
    assert feature_map_stage(model, torch.zeros(1, 3, side, side - 32)) is None


def evaluated(smoke: Project, tmp_path: Path, **changes: object) -> Path:
    """Evaluate the smoke study's resnet with some keys changed; return the output folder."""
    params = smoke.params
    params["evaluate"] |= changes
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    results = smoke.root / "results"
    done = run_script(
        "evaluate",
        *("--params", path, "--backbone", "resnet", "--seed", 0),
        *("--model", results / "train/resnet/0/model.safetensors", "--pack", results / "pack"),
        *("--split", results / "split/split.csv", "--output", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / "out"


@pytest.mark.slow
def test_metrics_match_the_tables(smoke_run: Project) -> None:
    runs = list(smoke_run.root.glob("results/evaluate/*/*"))
    assert runs
    for run in runs:
        metrics = json.loads((run / "metrics.json").read_text())
        table = pd.read_csv(run / "predictions.csv", keep_default_na=False)
        clean = table[table["leaked"] == 0].reset_index(drop=True)
        hits = clean["class"] == clean["predicted"]

        corrupted = pd.read_csv(run / "robustness.csv", keep_default_na=False)
        assert set(corrupted["image"]) == set(clean["image"])
        right = corrupted["class"] == corrupted["predicted"]
        assert right.groupby(corrupted["corruption"]).mean().to_dict() == pytest.approx(
            metrics["robustness"]
        )
        assert list(metrics["robustness"]) == smoke_run.params["evaluate"]["corruptions"]

        for by, parts in metrics["slices"].items():
            own = group_by_slice(clean.to_dict("records"), by)
            assert list(parts) == list(own)
            for value, rows in own.items():
                assert parts[value]["images"] == len(rows)
                assert parts[value]["accuracy"] == pytest.approx(hits[rows].mean())
        assert {key: part["accuracy"] for key, part in metrics["slices"]["class"].items()} == (
            pytest.approx(metrics["clean"]["recall"])
        )

        about = read_metadata(
            smoke_run.root / "results/train" / run.parent.name / run.name / "model.safetensors"
        )
        assert metrics["temperature"] == about["temperature"]
        chances = clean.filter(like="p:").to_numpy() ** (1 / metrics["temperature"])
        chances /= chances.sum(axis=1, keepdims=True)
        names = [name.removeprefix("p:") for name in clean.columns if name.startswith("p:")]
        own = chances[range(len(clean)), [names.index(label) for label in clean["class"]]]
        assert -np.log(own).mean() == pytest.approx(metrics["clean"]["nll_calibrated"], abs=1e-3)

        mistakes = pd.read_csv(run / "mistakes.csv", keep_default_na=False, dtype=str)
        expected = most_confident_errors(
            clean.astype(str).to_dict("records"), smoke_run.params["evaluate"]["explanations"]
        )
        assert list(mistakes["image"]) == [row["image"] for row in expected]
        size = smoke_run.params["train"]["image_size"]
        with np.load(run / "explanations.npz") as arrays:
            assert arrays["images"].shape == (len(mistakes), size, size, 3)
            assert arrays["maps"].shape == (len(mistakes), size, size)
            assert {array.dtype for array in arrays.values()} == {np.dtype(np.uint8)}
            assert arrays["images"].std() > 20


@pytest.mark.slow
def test_disabled_outputs_are_empty_and_the_others_unchanged(
    smoke_run: Project, tmp_path: Path
) -> None:
    out = evaluated(smoke_run, tmp_path, corruptions=[], slices=[], explanations=0)
    whole = smoke_run.root / "results/evaluate/resnet/0"
    assert (out / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    assert (out / "robustness.csv").read_text() == "image,group,class,corruption,predicted\n"
    assert (out / "mistakes.csv").read_text() == "image,class,group,predicted,confidence\n"
    with np.load(out / "explanations.npz") as arrays:
        assert len(arrays["images"]) == len(arrays["maps"]) == 0
        assert arrays["images"].ndim == 4
    metrics, full = (json.loads((each / "metrics.json").read_text()) for each in (out, whole))
    assert metrics == full | {"robustness": {}, "slices": {}, "explained_by": None}


@pytest.mark.slow
def test_evaluating_again_gives_the_same_bytes(smoke_run: Project, tmp_path: Path) -> None:
    out = evaluated(smoke_run, tmp_path)
    for made in out.iterdir():
        before = smoke_run.root / "results/evaluate/resnet/0" / made.name
        assert made.read_bytes() == before.read_bytes(), made.name
