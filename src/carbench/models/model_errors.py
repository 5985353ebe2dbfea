"""Error messages for timm models that do not support an operation, with a supported size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import timm
import torch
from torch import Tensor

from carbench.core.errors import CarbenchError
from carbench.models.backbones import create_model

CLASSES = ["one", "other"]
# Batch normalisation needs more than one value per channel, even for maps of a single cell.
IMAGES = 2
# Image sizes are often multiples of these: patches of 8, 14 and 16 pixels, strides of 32 ...
SIZE_MULTIPLES = (8, 14, 16, 32, 64)
MIN_SIZE, MAX_SIZE = 16, 1024


class UnsupportedModelError(Exception):
    """A model does not behave as the stages need."""


def nearest_size(name: str, image_size: int) -> int | None:
    """Return the nearest other image size that a timm model supports, or None.

    Only a few sizes are tried, on torch's meta device: multiples of usual patch sizes and strides,
    and the default size of the model.
    """
    config = timm.get_pretrained_cfg(name)
    sizes = {config.input_size[-1]} if config else set()
    for step in SIZE_MULTIPLES:
        lower = image_size // step * step
        sizes |= {lower, lower + step}
    for size in sorted(sizes - {image_size}, key=lambda size: (abs(size - image_size), size)):
        if MIN_SIZE <= size <= MAX_SIZE and _predicts(name, size):
            return size
    return None


def _predicts(name: str, size: int) -> bool:
    try:
        with torch.device("meta"), torch.no_grad():
            model = create_model(name, len(CLASSES), size).eval()
            check_logits(model(torch.rand(IMAGES, 3, size, size)))
    except Exception:  # any exception of timm and torch
        return False
    return True


@contextmanager
def explained_errors(name: str, image_size: int, key: str, operation: str) -> Iterator[None]:
    """Convert any exception of a model into an error about its key or about train.image_size.

    Args:
        name: name of the timm model.
        image_size: ``train.image_size``.
        key: key of the model in params.yaml.
        operation: what is done with the model, such as "exported".
    """
    try:
        yield
    except (CarbenchError, OSError):  # such as a full disk, which is unrelated to the model
        raise
    except ImportError as error:
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"{name}, which needs a package that is not installed ({_one_line(error)})",
            expected="a model that timm can create here",
            fix="install the package, or name another model",
        ) from None
    except Exception as error:
        working_size = None if _predicts(name, image_size) else nearest_size(name, image_size)
        if working_size:
            raise CarbenchError(
                "params.yaml",
                key="train.image_size",
                found=f"{image_size}, at which {name} ({key}) cannot be {operation} "
                f"({_one_line(error)})",
                expected="a size that all backbones support",
                fix=f"set train.image_size: {working_size}, the nearest tested size that works, "
                f"or name another model under {key}",
            ) from None
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"{name}, which cannot be {operation} at train.image_size {image_size} "
            f"({_one_line(error)})",
            expected="a model that can be trained as a classifier and exported as an ONNX graph",
            fix="name another model; no other tested train.image_size works",
        ) from None


def _one_line(error: Exception) -> str:
    """Return the root cause of an exception on one line; those of torch are pages long."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:200]}{'...' * (len(words) > 200)}".rstrip(": ")


def check_logits(output: object) -> None:
    """Raise an error unless the output is the logits of two images and two classes."""
    expected = (IMAGES, len(CLASSES))
    if not isinstance(output, Tensor) or output.shape != expected:
        found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UnsupportedModelError(f"its output is {found} instead of logits {list(expected)}")
