"""One dry pass of a backbone before any training: forward, backward and the exported graph.

Whatever timm has can be named in params.yaml; not all of it takes every image size, classifies or
can be captured as a graph. The pass runs what the later stages run (the training's mode and loss,
:func:`carbench.exporting.graph.write_onnx`, ONNX Runtime), with random weights, two classes and two
pictures, so that a backbone that would fail there is refused in stage weights.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from carbench.errors import CarbenchError
from carbench.exporting.graph import Deployable, write_onnx
from carbench.models.backbones import ModelCard, create, normalization
from carbench.models.devices import place, prepare
from carbench.params.compute import ComputeSection
from carbench.pictures.packed import Normalizer
from carbench.training.optimizing import train_mode

CLASSES = ["one", "other"]
# One picture alone has no variance for batch normalisation where its map has shrunk to one cell.
PICTURES = 2
# An ONNX file is one protocol buffer, which holds 2 GiB; the graph needs a little of it.
LARGEST = 2**31 - 2**24
# Of probabilities: rounding differs between torch and ONNX Runtime, a wrong graph by far more.
TOLERANCE = 0.01
# Sizes that architectures want a multiple of: patches of 8, 14 and 16 pixels, strides of 32 ...
STEPS = (8, 14, 16, 32, 64)
SMALLEST, LARGEST_SIDE = 16, 1024


class _UnfitError(Exception):
    """What a model does that the stages cannot work with."""


def dry_run(name: str, image_size: int, backbone: str) -> nn.Module:
    """Make a timm model for two classes and let it pass once through what the stages do with it.

    Args:
        name: of the timm model.
        image_size: pixels of both sides of the pictures, ``train.image_size``.
        backbone: its name under ``backbones:``.

    Returns:
        The model, on the CPU, with random weights.

    Raises:
        CarbenchError: the model cannot be made, trained or exported at this size.
    """
    device = prepare(ComputeSection(device="cpu", threads=1, batch_size=PICTURES), "weights")
    torch.manual_seed(0)  # the same verdict on every run
    key = f"backbones.{backbone}.model"
    with _refused(name, image_size, key, "made"):
        _refuse_large(name, image_size, key)
        model = create(name, len(CLASSES), image_size, key)
    with _refused(name, image_size, key, "trained"):
        _train(place(model, device), image_size)
    with _refused(name, image_size, key, "exported"):
        _export(model.eval(), name, image_size)
    return model


def nearest_size(name: str, image_size: int) -> int | None:
    """Return the nearest other image size at which a timm model predicts, or None.

    Only a few sizes are tried, without computing (on torch's meta device): multiples of what
    architectures divide pictures by, and the model's own.
    """
    config = timm.get_pretrained_cfg(name)
    sizes = {config.input_size[-1]} if config else set()
    for step in STEPS:
        lower = image_size // step * step
        sizes |= {lower, lower + step}
    for size in sorted(sizes - {image_size}, key=lambda size: (abs(size - image_size), size)):
        if SMALLEST <= size <= LARGEST_SIDE and _predicts(name, size):
            return size
    return None


def _predicts(name: str, size: int) -> bool:
    try:
        with torch.device("meta"), torch.no_grad():
            model = create(name, len(CLASSES), size).eval()
            _refuse_other_than_logits(model(torch.rand(PICTURES, 3, size, size)))
    except Exception:  # of any kind: timm and torch have many
        return False
    return True


@contextmanager
def _refused(name: str, image_size: int, key: str, done: str) -> Iterator[None]:
    """Turn whatever a model raises into one sentence; a key at fault is one of two."""
    try:
        yield
    except (CarbenchError, OSError):  # such as a full disk, which is not the model's fault
        raise
    except ImportError as error:
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"{name}, which needs a package that is not installed ({_said(error)})",
            expected="a model that timm can make here",
            fix="install the package, or name another model",
        ) from None
    except Exception as error:
        fits = None if _predicts(name, image_size) else nearest_size(name, image_size)
        if fits:
            raise CarbenchError(
                "params.yaml",
                key="train.image_size",
                found=f"{image_size}, at which {name} ({key}) cannot be {done} ({_said(error)})",
                expected="a size that every backbone takes",
                fix=f"set train.image_size: {fits}, the nearest of those tried at which it runs, "
                f"or name another model under {key}",
            ) from None
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"{name}, which cannot be {done} at train.image_size {image_size} "
            f"({_said(error)})",
            expected="a model that can be trained as a classifier and exported as an ONNX graph",
            fix="name another model; another train.image_size would hardly help",
        ) from None


def _said(error: Exception) -> str:
    """Return what an error says, on one line: torch's are pages long, and hide what they are of."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:200]}{'...' * (len(words) > 200)}".rstrip(": ")


def _refuse_large(name: str, image_size: int, key: str) -> None:
    with torch.device("meta"):
        model = create(name, len(CLASSES), image_size, key)
    tensors = [*model.parameters(), *model.buffers()]
    size = sum(each.numel() * each.element_size() for each in tensors)
    if size > LARGEST:
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"{name}, whose weights take {size / 1e9:.1f} GB",
            expected=f"at most {LARGEST / 1e9:.1f} GB, which an ONNX file can hold",
            fix="name a smaller model",
        )


def _train(model: nn.Module, image_size: int) -> None:
    """Take the gradients of one batch, as :class:`carbench.training.trainer.Trainer` does."""
    train_mode(model, frozen=False)
    pictures = torch.rand(PICTURES, 3, image_size, image_size)
    logits = model(pictures.contiguous(memory_format=torch.channels_last))
    _refuse_other_than_logits(logits)
    functional.cross_entropy(logits, torch.arange(PICTURES)).backward()
    model.zero_grad(set_to_none=True)


def _refuse_other_than_logits(given: object) -> None:
    expected = (PICTURES, len(CLASSES))
    if not isinstance(given, Tensor) or given.shape != expected:
        found = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise _UnfitError(f"it puts out {found} where logits {list(expected)} are needed")


def _export(model: nn.Module, name: str, image_size: int) -> None:
    """Write the graph and hold what ONNX Runtime makes of it against the model itself."""
    mean, std = normalization(model)
    card = ModelCard(name, CLASSES, image_size, mean, std)
    pixels = torch.randint(0, 256, (PICTURES + 1, image_size, image_size, 3), dtype=torch.uint8)
    with torch.no_grad():
        upright = pixels.permute(0, 3, 1, 2).float() / 255
        logits = model(Normalizer(mean, std, torch.device("cpu"))(upright))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(Deployable(model, card, image_size, 1.0).eval(), image_size, CLASSES, path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (given, _) = session.run(None, {"pictures": pixels.numpy()})
    difference = (torch.from_numpy(given) - logits.softmax(dim=1)).abs().max().item()
    # Random weights may put out infinities, of which nothing can be compared.
    if math.isfinite(difference) and difference > TOLERANCE:
        raise _UnfitError(f"the graph's probabilities are {difference:.2g} off")
