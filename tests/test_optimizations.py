"""Optimisations do not change results: the same images, bits and errors."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from carbench.core.errors import CarbenchError
from carbench.data.images.decoding import Fit, ImageInfo, decode, decode_resized, resize
from carbench.data.loading import batches as packed
from carbench.data.loading.augment import draw_crops, draw_erased_boxes, erase, resample
from carbench.data.loading.batches import PackedImages
from carbench.data.pack import writing
from carbench.models import devices
from carbench.models.predict import predict_logits
from carbench.params.pack import PackParams
from carbench.training.loop import TrainingResult, fit
from toy import CLASSES, CPU, NORMALIZE, images, recipe


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


# ---- images


def out_of_memory(*_: object) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_images_read_from_disk_equal_those_in_memory(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.arange(len(np.load(made / "images.npy", mmap_mode="r")))[::-1]
    wanted = list(torch.randperm(len(rows)).split(7))
    resident = list(PackedImages(made, rows, CPU).batches(wanted))
    with monkeypatch.context() as patch:
        patch.setattr(packed, "RESIDENT_BYTES", 0)
        streamed = PackedImages(made, rows, CPU)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "to", out_of_memory)
        crowded_out = PackedImages(made, rows, CPU)  # by other jobs on the same GPU
    for batches in (streamed.batches(wanted), crowded_out.batches(wanted)):
        for one, other in zip(resident, batches, strict=True):
            assert torch.equal(one, other)
    next(iter(streamed.batches(wanted)))  # stopping early does not block
    model = timm.create_model("test_resnet", num_classes=3)
    assert len(predict_logits(model, streamed, NORMALIZE, 32, 5)) == len(rows)


@given(chance=st.floats(0, 1), seed=st.integers(0, 99))
def test_erasing_covers_one_box_in_some_images(chance: float, seed: int) -> None:
    before = torch.full((200, 3, 24, 24), 2.0)  # which no box is painted in
    patches = draw_erased_boxes(200, chance, torch.Generator().manual_seed(seed))
    after = erase(before, patches)
    changed = (before != after).all(dim=1)
    touched = changed.flatten(1).any(dim=1)
    deviation = (chance * (1 - chance) / 200) ** 0.5
    assert abs(touched.float().mean() - chance) <= 5 * deviation + 0.01
    for image, where in zip(after[touched], changed[touched], strict=True):
        rows, columns = where.any(1).nonzero(), where.any(0).nonzero()
        box = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].flatten(1)
        assert box.shape[1] == where.sum()
        assert box.shape[1] <= 0.45 * 24 * 24
        assert (box == box[:, :1]).all()


def test_a_large_jpeg_is_decoded_at_reduced_size() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((2000, 1500), Image.Resampling.BICUBIC).save(file, "JPEG")
    for fit_how in ("squash", "crop", "pad"):
        quick = np.asarray(decode_resized(file.getvalue(), 96, fit_how)[0], int)
        exact = np.asarray(resize(decode(file.getvalue())[0], 96, fit_how), int)
        assert abs(quick - exact).mean() < 1
        assert abs(quick - exact).max() < 10


def test_a_killed_pack_resumes_and_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "CHUNK", 1)
    monkeypatch.setattr(writing, "CHECKPOINT_IMAGES", 5)
    params = PackParams(size=16, fit="squash")
    paths = [tmp_path / f"{number}.png" for number in range(23)]
    rng = np.random.default_rng(0)
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    writing.write_array(tmp_path, paths, params, None)
    whole = (tmp_path / "images.npy").read_bytes()
    assert np.load(tmp_path / "images.npy").shape == (23, 16, 16, 3)

    calls = tmp_path / "calls"
    limit = [13, 9, 100]

    def stopping(content: bytes, size: int, how: Fit) -> tuple[Image.Image, ImageInfo]:
        with calls.open("ab") as file:  # in processes of their own
            file.write(b".")
        if calls.stat().st_size > limit[0]:
            raise KeyboardInterrupt
        return decode_resized(content, size, how)

    monkeypatch.setattr(writing, "decode_resized", stopping)
    monkeypatch.setattr(writing, "MAX_QUEUED_BYTES", 0)
    scratch = tmp_path / "scratch"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            writing.write_array(tmp_path, paths, params, scratch)
        with (scratch / "images.npy").open("ab") as file:
            file.write(b"half an image")
        calls.unlink()
        limit.pop(0)
    writing.write_array(tmp_path, paths, params, scratch)
    assert calls.stat().st_size < len(paths)
    assert (tmp_path / "images.npy").read_bytes() == whole


# ---- steps


class Small(nn.Module):
    """A model on a device whose memory holds so many images at a time, and no more."""

    def __init__(self, most: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = timm.create_model("test_vit", img_size=32, num_classes=len(CLASSES))
        self.num_classes = len(CLASSES)
        self.pretrained_cfg = {"classifier": "model.head"}
        self.most = most

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        logits: torch.Tensor = self.model(batch)
        return logits


def trained(made: Path, most: int, **changes: object) -> TrainingResult:
    changes = {"precision": "float32", "val_batch_size": 2, **changes}
    params = recipe(epochs=2, warmup_epochs=0.5, **changes)
    return fit(Small(most), images(made, "train"), images(made, "val"), NORMALIZE, params, 0)


def test_a_batch_too_large_is_split_into_micro_batches(made: Path) -> None:
    """Where nothing is normalised over the batch, parts of it give its gradients."""
    whole = trained(made, 16)
    assert whole.micro_batch == 16
    parts = trained(made, 5, out_of_memory="halve")
    assert parts.micro_batch == 4
    for one, other in zip(whole.history, parts.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-3)
    with pytest.raises(CarbenchError, match=r"train\.batch_size: found 16 images at a time"):
        trained(made, 5)
    with pytest.raises(CarbenchError, match=r"train\.batch_size: found 1 images at a time"):
        trained(made, 0, out_of_memory="halve")


@pytest.mark.parametrize(
    ("model", "native", "expected"),
    [
        ("test_resnet", True, "bfloat16"),
        ("test_resnet", False, "float32"),
        ("test_efficientnet", True, "float32"),
        ("test_convnext", True, "float32"),
    ],
)
def test_automatic_precision_depends_on_processor_and_model(
    model: str, native: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cpu_supports_bfloat16", lambda: native)
    built = timm.create_model(model, num_classes=2)
    assert devices.uses_bfloat16("auto", built, CPU) == (expected == "bfloat16")
    assert devices.uses_bfloat16("bfloat16", built, CPU)
    assert not devices.uses_bfloat16("float32", built, CPU)


def test_tf32_changes_a_crop_by_less_than_half_a_grey_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As GPUs read matrices where they may: the last 13 of float32's 23 bits are cut off."""

    def cut(matrix: torch.Tensor) -> torch.Tensor:
        return (matrix.contiguous().view(torch.int32) & -(1 << 13)).view(torch.float32)

    rng = torch.Generator().manual_seed(0)
    crops = draw_crops(8, recipe().augment, rng)
    pixels = torch.randint(0, 256, (8, 256, 256, 3), generator=rng).to(torch.uint8)
    pixels[4:] = 255  # where all errors have the same sign
    exact = resample(pixels, crops, 224)
    real = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda one, other: real(cut(one), cut(other)))
    error = 255 * (resample(pixels, crops, 224) - exact).abs().max()
    assert 0.1 < error < 0.5


def test_val_may_be_predicted_in_bfloat16(made: Path) -> None:
    model = timm.create_model("test_resnet", num_classes=3)
    val = images(made, "val").images
    exact, rounded = (predict_logits(model, val, NORMALIZE, 32, 5, half) for half in (False, True))
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert torch.allclose(exact, rounded, atol=0.05)


# ---- start-up


@pytest.mark.slow
def test_the_compiler_is_imported_only_to_compile() -> None:
    code = """
import sys
import carbench.training.run
import timm, torch
from carbench.models.devices import set_up_device
from carbench.params.compute import ComputeSection
set_up_device(ComputeSection(device="cpu", threads=1, batch_size=1), "train")
assert torch.are_deterministic_algorithms_enabled()
from timm.utils.model_ema import ModelEmaV3
model = timm.create_model("test_resnet", num_classes=3)
for kind in (torch.optim.AdamW, torch.optim.SGD):
    optimizer = kind(model.parameters(), lr=0.1, fused=True)
    model(torch.rand(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
ModelEmaV3(model, 0.9, use_warmup=True).update(model)
print("torch._dynamo.eval_frame" in sys.modules)
from carbench.models.compiler_stub import load_compiler
load_compiler()
print(torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(1)).item())
print("torch._dynamo.eval_frame" in sys.modules)
import torch._dynamo.config
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "1.0", "True"], (
        f"torch or timm has changed: the stubs no longer save time\n{done.stderr}"
    )
