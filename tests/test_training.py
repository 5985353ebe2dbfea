"""Training is reproducible, selects on val, and resamples images correctly."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from carbench.core.errors import CarbenchError
from carbench.core.params import read_section
from carbench.data.loading.augment import Crops, draw_crops, full_crops, resample
from carbench.models.timm_names import known_names, refuse_unknown
from carbench.params.train import BackboneParams, TrainParams
from carbench.training.loop import Epoch, is_better
from carbench.training.optim import learning_rates
from conftest import ROOT, Project, run_script

PARAMS = read_section(ROOT / "presets/sample.yaml", "train", TrainParams)


def images(count: int, side: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, side, side, 3), generator=rng, dtype=torch.uint8)


def test_a_full_crop_at_the_original_size_is_the_image() -> None:
    pixels = images(3, 20)
    same = resample(pixels, full_crops(3), 20)
    assert torch.allclose(same * 255, pixels.permute(0, 3, 1, 2).float(), atol=1e-3)


@pytest.mark.parametrize(("side", "size"), [(64, 24), (40, 40), (24, 48)])
def test_resampling_agrees_with_pillow(side: int, size: int) -> None:
    """Pillow's BILINEAR with the same box is the reference; it rounds to whole grey levels."""
    pixels = images(1, side)
    box = (0.25 * side, 0.125 * side, 0.75 * side, 1.0 * side)  # left, top, right, bottom
    crops = Crops(
        *(torch.tensor([part]) for part in (0.125, 0.25, 0.875, 0.5)), torch.tensor([False])
    )
    ours = resample(pixels, crops, size)[0].permute(1, 2, 0) * 255
    reference = Image.fromarray(pixels[0].numpy()).resize(
        (size, size), Image.Resampling.BILINEAR, box
    )
    # At the edge of the box Pillow ignores pixels outside; here the filter includes them.
    inner = slice(2, -2)
    assert np.abs(ours.numpy() - np.asarray(reference, np.float32))[inner, inner].max() < 1.01


def test_mirroring_swaps_left_and_right() -> None:
    pixels = images(1, 16)
    mirrored = replace(full_crops(1), mirrored=torch.tensor([True]))
    upright = resample(pixels, full_crops(1), 16)
    assert torch.allclose(resample(pixels, mirrored, 16), upright.flip(3), atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.05, 1), st.floats(1, 2), st.integers(0, 2**31))
def test_crops_are_inside_the_image(min_area: float, max_stretch: float, seed: int) -> None:
    changes = {"min_area": min_area, "max_stretch": max_stretch}
    params = PARAMS.augment.model_copy(update=changes)
    crops = draw_crops(64, params, torch.Generator().manual_seed(seed))
    for start, length in ((crops.top, crops.height), (crops.left, crops.width)):
        assert (start >= 0).all()
        assert (length > 0).all()
        assert (start + length <= 1 + 1e-6).all()


def test_the_learning_rate_warms_up_and_decays_to_zero() -> None:
    rates = [rate for epoch in range(PARAMS.epochs) for rate in learning_rates(epoch, 10, PARAMS)]
    peak = rates.index(max(rates))
    assert len(rates) == 10 * PARAMS.epochs
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.01 * PARAMS.lr < max(rates) <= PARAMS.lr


def test_val_determines_the_better_epoch() -> None:
    def epoch(loss: float, accuracy: float) -> Epoch:
        return Epoch(1, 0.1, 0.0, loss, accuracy)

    assert is_better(epoch(2.0, 0.8), epoch(1.0, 0.7), "val_accuracy")
    assert not is_better(epoch(2.0, 0.8), epoch(1.0, 0.7), "val_loss")
    assert is_better(epoch(1.0, 0.7), epoch(2.0, 0.7), "val_accuracy")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    smoke: Project, tmp_path: Path
) -> None:
    def train(seed: int, name: str) -> bytes:
        folder = smoke.root / "results"
        done = run_script(
            "train",
            *("--params", smoke.root / "params.yaml", "--backbone", "mobilenet", "--seed", seed),
            *("--pack", folder / "pack", "--split", folder / "split/split.csv"),
            *("--weights", folder / "weights/mobilenet.safetensors"),
            *("--tune", folder / "tune/mobilenet.csv"),
            *("--output", tmp_path / name),
        )
        assert done.returncode == 0, done.stderr
        return (tmp_path / name / "model.safetensors").read_bytes()

    by_snakemake = smoke.root / "results/train/mobilenet/0/model.safetensors"
    assert train(0, "again") == by_snakemake.read_bytes()
    assert train(1, "other") != by_snakemake.read_bytes()
    history = (tmp_path / "again/history.csv").read_text()
    assert history == (by_snakemake.parent / "history.csv").read_text()


@pytest.mark.slow
def test_the_saved_epoch_is_the_best_on_val(smoke: Project) -> None:
    for run in smoke.root.glob("results/train/*/*"):
        history = pd.read_csv(run / "history.csv")
        chosen = history[history["chosen"] == 1]
        assert len(chosen) == 1
        assert chosen["val_accuracy"].item() == history["val_accuracy"].max()
        metrics = json.loads(
            (
                smoke.root / "results/evaluate" / run.parent.name / run.name / "metrics.json"
            ).read_text()
        )
        assert metrics["epoch"] == chosen["epoch"].item()


@pytest.mark.slow
def test_training_starts_from_a_local_checkpoint(smoke: Project, tmp_path: Path) -> None:
    """A pinned file is used with a new head; other content is rejected."""
    import timm

    checkpoint = tmp_path / "start.pth"
    torch.save(timm.create_model("test_resnet", num_classes=11).state_dict(), checkpoint)
    params = smoke.params
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    params["backbones"]["resnet"]["weights"] = {"file": str(checkpoint), "sha256": digest}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    arguments = ["--params", path, "--backbone", "resnet"]
    weights = tmp_path / "resnet.safetensors"
    done = run_script("weights", *arguments, "--output", weights)
    assert done.returncode == 0, done.stderr
    results = smoke.root / "results"
    done = run_script(
        "train",
        *(*arguments, "--seed", 0, "--pack", results / "pack"),
        *("--split", results / "split/split.csv", "--weights", weights),
        *("--tune", results / "tune/resnet.csv"),
        *("--output", tmp_path / "run"),
    )
    assert done.returncode == 0, done.stderr
    assert "started from file; re-initialised: fc.bias, fc.weight" in done.stderr

    checkpoint.write_bytes(checkpoint.read_bytes() + b"x")
    done = run_script("weights", *arguments, "--output", tmp_path / "other.safetensors")
    assert done.returncode == 1
    assert "weights.sha256" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "other.safetensors").exists()


def test_model_names_are_read_without_importing_timm() -> None:
    known = known_names()
    assert len(known) > 500
    backbone = BackboneParams(model="resnet18.a1_in1k", weights="random", train={})
    refuse_unknown({"a": backbone}, ROOT / "presets/sample.yaml")
    wrong = BackboneParams(model="resnet81", weights="random", train={})
    with pytest.raises(CarbenchError, match=r"backbones\.b\.model: found 'resnet81'.*write resnet"):
        refuse_unknown({"a": backbone, "b": wrong}, ROOT / "presets/sample.yaml")


@pytest.mark.slow
def test_model_names_equal_those_of_timm() -> None:
    import timm

    assert set(timm.list_models()) == known_names()
