"""The classifier heads of a timm model, which are replaced for the classes of a study."""

from __future__ import annotations

from typing import Any

from torch import nn


def classifier_modules(model: nn.Module) -> list[nn.Module]:
    """Return the classifier modules of a timm model; several if it has more than one head.

    They are named by the timm configuration of the model; without it, ``get_classifier`` returns
    them.
    """
    named = [model.get_submodule(name) for name in _classifier_names(model)]
    if named:
        return named
    found: Any = model.get_classifier()  # type: ignore[operator]
    return [found] if isinstance(found, nn.Module) else list(found)


def train_mode(model: nn.Module, frozen: bool) -> None:
    """Put a model, or only its head if the body is frozen, into training mode.

    A frozen body keeps its weights and batch-normalisation statistics and has no dropout.
    """
    model.train(not frozen).requires_grad_(not frozen)
    for head in classifier_modules(model):
        head.train().requires_grad_(True)


def may_be_reinitialised(model: nn.Module, tensor: str) -> bool:
    """Return whether a tensor of the state dict may keep its random initialisation.

    Only tensors after the pooling may: those of the module that contains the classifier, with its
    normalisation, and ``fc_norm``, timm's name for a normalisation in front of it.
    """
    heads = {id(each) for each in classifier_modules(model)}
    first = tensor.partition(".")[0]
    if first == "fc_norm":
        return True
    holder = getattr(model, first, None)
    return isinstance(holder, nn.Module) and any(id(each) in heads for each in holder.modules())


def _classifier_names(model: nn.Module) -> list[str]:
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    names = config.get("classifier") or ()
    known = dict(model.named_modules())
    return [each for each in ([names] if isinstance(names, str) else names) if each in known]
