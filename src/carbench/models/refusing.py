"""Refuses what a timm model cannot do in one sentence, with an image size at which it can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import timm
import torch
from torch import Tensor

from carbench.core.errors import CarbenchError
from carbench.models.backbones import create

CLASSES = ["one", "other"]
# One image alone has no variance for batch normalisation where its map has shrunk to one cell.
IMAGES = 2
# Sizes that architectures want a multiple of: patches of 8, 14 and 16 pixels, strides of 32 ...
STEPS = (8, 14, 16, 32, 64)
SMALLEST, LARGEST_SIDE = 16, 1024


class UnfitError(Exception):
    """What a model does that the stages cannot work with."""


def nearest_size(name: str, image_size: int) -> int | None:
    """Return the nearest other image size at which a timm model predicts, or None.

    Only a few sizes are tried, without computing (on torch's meta device): multiples of what
    architectures divide images by, and the model's own.
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
            refuse_other_than_logits(model(torch.rand(IMAGES, 3, size, size)))
    except Exception:  # of any kind: timm and torch have many
        return False
    return True


@contextmanager
def refused(name: str, image_size: int, key: str, done: str) -> Iterator[None]:
    """Turn whatever a model raises into one sentence; a key at fault is one of two.

    Args:
        name: of the timm model.
        image_size: ``train.image_size``.
        key: of params.yaml where the model is named.
        done: what is tried, such as "exported".
    """
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


def refuse_other_than_logits(given: object) -> None:
    """Raise :class:`UnfitError` unless a model of two classes has put out logits of two images."""
    expected = (IMAGES, len(CLASSES))
    if not isinstance(given, Tensor) or given.shape != expected:
        found = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise UnfitError(f"it puts out {found} where logits {list(expected)} are needed")
