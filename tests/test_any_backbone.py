"""Any timm model passes the dry run of all stages, or is rejected with an explanation."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from torch import nn

from carbench.core.errors import CarbenchError
from carbench.models import dry_run as module
from carbench.models.backbones import (
    ModelCard,
    create_model,
    load_initial_weights,
    load_trained_model,
)
from carbench.models.convert_weights import convert_weights
from carbench.models.devices import move_to_device
from carbench.models.dry_run import dry_run
from carbench.models.heads import classifier_modules
from carbench.models.macs import count_macs
from carbench.models.model_errors import nearest_size
from carbench.models.model_file import save_model
from carbench.models.onnx_export import ExportableModel, write_onnx
from carbench.training.run import load_data, train_backbone
from conftest import ROOT, run_script
from toy import CLASSES, CPU, recipe

# The smallest model of each of timm's modules, by parameters of a model with two classes.
with (ROOT / "tests/small_backbones.csv").open(newline="") as file:
    SMALL = list(csv.DictReader(file))
# The suite tests those with at most this many parameters, since a dry run takes 3 to 20 seconds of
# CPU time. CARBENCH_ANY_BACKBONE=60e6 tests all but the very large.
LARGEST = float(os.environ.get("CARBENCH_ANY_BACKBONE", "0.8e6"))
CHOSEN = [row["model"] for row in SMALL if int(row["parameters"]) <= LARGEST]


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOSEN)
def test_every_family_runs_or_is_rejected(name: str) -> None:
    try:
        model = dry_run(name, 64, "some")
    except CarbenchError as error:
        assert_one_sentence(error)
        return
    assert count_macs(model.requires_grad_(False), torch.rand(1, 3, 64, 64)) > 0


def test_the_gradient_of_a_strided_1x1_convolution_of_rgb_is_right() -> None:
    """In the channels-last layout, oneDNN writes past its buffer."""
    convolution = nn.Conv2d(3, 16, 1, stride=2)
    images, rows = torch.rand(2, 3, 32, 32), torch.rand(2, 16, 16, 16)
    expected = torch.einsum("nohw,nihw->oi", rows, images[:, :, ::2, ::2])
    moved = move_to_device(nn.Sequential(convolution), CPU)
    moved(images.contiguous(memory_format=torch.channels_last)).backward(rows)
    assert convolution.weight.grad is not None
    torch.testing.assert_close(convolution.weight.grad[:, :, 0, 0], expected)


def assert_one_sentence(error: CarbenchError) -> None:
    text = str(error)
    assert "\n" not in text
    assert "Traceback" not in text
    for part in ("params.yaml: ", "found ", "; expected ", ". Fix: ", "backbones.some.model"):
        assert part in text
    assert "train.image_size" in text


@pytest.mark.slow
def test_the_list_contains_every_module_of_timm() -> None:
    assert {row["module"] for row in SMALL} == set(timm.list_modules())
    assert all(row["model"] in timm.list_models(module=row["module"]) for row in SMALL)


def test_a_vit_is_trained_at_another_image_size(made: Path, tmp_path: Path) -> None:
    """From split.csv to predictions at 48 pixels; the default size of the model is 160."""
    start = tmp_path / "start.safetensors"
    save_model(start, {}, {"model": "test_vit", "start": "random"})
    data = load_data(made, made / "split.csv", 0, CPU)
    trained, card, _ = train_backbone(start, data, recipe(image_size=48, epochs=1), 0, "vit")
    saved = tmp_path / "model.safetensors"
    save_model(saved, trained.tensors, {"card": asdict(card)})
    model, card = load_trained_model(saved, CPU)
    assert card.image_size == 48
    assert model(torch.rand(2, 3, 48, 48)).shape == (2, len(CLASSES))


def test_both_heads_of_a_distilled_model_are_trained() -> None:
    model = create_model("deit_tiny_distilled_patch16_224", 3, 32).train()
    logits = model(torch.rand(2, 3, 32, 32))
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    first, second = classifier_modules(model)
    assert first.weight.grad.abs().sum() > 0
    assert second.weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_a_distilled_model_is_exported_with_both_heads(tmp_path: Path) -> None:
    """Its heads disagree; the graph's answer is that of their mean."""
    torch.manual_seed(0)
    name = "deit_tiny_distilled_patch16_224"
    model = timm.create_model(name, num_classes=3, img_size=32, depth=2).eval()
    nn.init.normal_(model.head_dist.weight)
    card = ModelCard(name, CLASSES, 32, [0.0] * 3, [1.0] * 3)
    path = tmp_path / "model.onnx"
    write_onnx(ExportableModel(model, card, 32, 1.0).eval(), 32, CLASSES, path)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    given, embedding = onnxruntime.InferenceSession(path).run(None, {"images": pixels})
    with torch.inference_mode():
        expected = model(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).softmax(dim=1)
    np.testing.assert_allclose(given, expected.numpy(), atol=1e-5)
    assert len(embedding) == 3


def test_weights_of_another_size_are_resampled(tmp_path: Path) -> None:
    """The position embeddings of a ViT are resampled; only the head keeps its random values."""
    theirs = timm.create_model("test_vit", num_classes=10).state_dict()
    model = create_model("test_vit", 2, 48)
    with pytest.raises(CarbenchError, match=r"pos_embed of shape \[1, 101, 64\]"):
        load_initial_weights(model, theirs, tmp_path / "start.safetensors")

    tensors = convert_weights(theirs, model, "test_vit", 48, "backbones.vit.weights")
    positions = timm.layers.resample_abs_pos_embed(theirs["pos_embed"], [3, 3])
    assert torch.equal(tensors["pos_embed"], positions)
    new = load_initial_weights(model, tensors, tmp_path / "start.safetensors")
    assert new == ["head.bias", "head.weight"]
    assert torch.equal(model.pos_embed, positions)
    assert torch.equal(theirs["norm.weight"], tensors["norm.weight"])


def test_weights_that_cannot_be_resampled_are_rejected() -> None:
    """LeViT's attention biases belong to one grid, and timm has no way to another."""
    theirs = create_model("levit_128s", 2, 224).state_dict()
    with pytest.raises(CarbenchError) as caught:
        convert_weights(
            theirs, create_model("levit_128s", 2, 64), "levit_128s", 64, "backbones.some.weights"
        )
    text = str(caught.value)
    assert text.startswith("params.yaml: backbones.some.weights: found stages.0.blocks.0.attn")
    assert "train.image_size, which is 64" in text


def test_weights_of_the_right_size_are_unchanged() -> None:
    theirs = timm.create_model("test_resnet", num_classes=10).state_dict()
    tensors = convert_weights(theirs, create_model("test_resnet", 2, 48), "test_resnet", 48, "key")
    assert list(tensors) == list(theirs)
    assert all(torch.equal(tensors[name], theirs[name]) for name in theirs)


def test_an_unsupported_size_is_rejected_and_a_supported_one_suggested() -> None:
    with pytest.raises(CarbenchError) as caught:
        dry_run("test_vit", 50, "some")
    assert_one_sentence(caught.value)
    text = str(caught.value)
    assert text.startswith("params.yaml: train.image_size: found 50, at which test_vit (backbones.")
    assert "set train.image_size: 48, the nearest tested size" in text


@pytest.mark.slow
def test_the_only_supported_size_is_suggested() -> None:
    assert nearest_size("crossvit_tiny_240", 100) is not None
    assert nearest_size("efficientformer_l1", 64) == 224


class Sums(nn.Module):
    """A classifier with a peculiarity."""

    pretrained_cfg: dict[str, Any] = {}  # noqa: RUF012
    num_classes = 2

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.fc = nn.Linear(3, classes)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        pooled = x.mean(dim=(2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


class ByContent(Sums):
    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.mean() > 0 else -x


class FromUnwrittenMemory(torch.autograd.Function):
    """An operator whose gradient depends on what was in memory before."""

    @staticmethod
    def forward(_: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(gradient)


class Unrepeatable(Sums):
    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        head: torch.Tensor = super().forward_head(x, pre_logits)
        return FromUnwrittenMemory.apply(head)  # type: ignore[no-any-return,no-untyped-call]


class Absent(Sums):
    def __init__(self) -> None:
        raise ModuleNotFoundError("No module named 'rarely_installed'")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (ByContent, "cannot be exported at train.image_size 48"),
        (lambda: Sums(5), r"its output is \[2, 5\] instead of logits \[2, 2\]"),
        (Unrepeatable, r"cannot be trained .*the gradient of fc\.weight is not a number\)"),
        (Absent, "needs a package that is not installed"),
    ],
)
def test_models_that_cannot_run_are_rejected(
    make: Callable[[], nn.Module], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "create_model", lambda *arguments: make())
    with pytest.raises(CarbenchError, match=words) as caught:
        dry_run("test_resnet", 48, "some")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("params.yaml: backbones.some.model: found test_resnet, ")


@pytest.mark.slow
def test_the_stage_rejects_a_model_before_any_training(
    study: Callable[..., Path], tmp_path: Path
) -> None:
    options = ("--backbone", "resnet", "--output", tmp_path / "start.safetensors")
    unfit = study({"backbones.resnet.model": "test_vit", "train.image_size": 40})
    done = run_script("weights", "--params", unfit, *options)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "train.image_size: found 40, at which test_vit (backbones.resnet.model)" in done.stderr
    assert not (tmp_path / "start.safetensors").exists()
    fit = study({"backbones.resnet.model": "test_vit", "train.image_size": 32})
    done = run_script("weights", "--params", fit, *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["weights resnet: test_vit starts from random"]
