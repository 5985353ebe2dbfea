"""The classifiers of a timm model: what is made anew for the classes of a study."""

from __future__ import annotations

from typing import Any

from torch import nn


def head_of(model: nn.Module) -> list[nn.Module]:
    """Return the classifiers of a timm model: one, or several where it has more heads.

    They are what timm's configuration of the model names; without one, what its
    ``get_classifier`` returns.
    """
    named = [model.get_submodule(name) for name in _names(model)]
    if named:
        return named
    found: Any = model.get_classifier()  # type: ignore[operator]
    return [found] if isinstance(found, nn.Module) else list(found)


def train_mode(model: nn.Module, frozen: bool) -> None:
    """Put a model into training mode: all of it, or with a frozen body only its head.

    A frozen body keeps its weights and its batch-normalisation statistics, and has no drop-out.
    """
    model.train(not frozen).requires_grad_(not frozen)
    for head in head_of(model):
        head.train().requires_grad_(True)


def may_be_new(model: nn.Module, tensor: str) -> bool:
    """Say whether a tensor of the state dict may be left as it was made, or must be loaded.

    Only what follows the pooling may: the module that holds the classifier, with its normalisation,
    and ``fc_norm``, timm's name for a normalisation in front of it.
    """
    heads = {id(each) for each in head_of(model)}
    first = tensor.partition(".")[0]
    if first == "fc_norm":
        return True
    holder = getattr(model, first, None)
    return isinstance(holder, nn.Module) and any(id(each) in heads for each in holder.modules())


def _names(model: nn.Module) -> list[str]:
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    names = config.get("classifier") or ()
    known = dict(model.named_modules())
    return [each for each in ([names] if isinstance(names, str) else names) if each in known]
