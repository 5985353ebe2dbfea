"""`train:` and `backbones:` - recipe and models (stages weights and train)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from carbench.core.params import Section
from carbench.params.compute import ComputeSection

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


# Keys of `train:` that no result depends on: they are not among the parameters of any job.
WITHOUT_EFFECT = ("profile",)


class AugmentParams(Section):
    """Random augmentation of training images; not used in evaluation."""

    min_area: Annotated[float, Field(gt=0, le=1)]
    max_stretch: Annotated[float, Field(ge=1)]
    flip: bool
    brightness: Fraction
    contrast: Fraction
    erase: Fraction
    mixup: NotNegative


class TrainParams(ComputeSection):
    """The recipe; a backbone may override every key except ``image_size``.

    ``finetune`` has the overrides for backbones with pretrained weights. It is empty in the recipe
    of a backbone, see :func:`recipe_of`, which leaves out the :data:`WITHOUT_EFFECT`, too.
    """

    image_size: Annotated[int, Field(ge=16, le=1024)]
    epochs: Annotated[int, Field(ge=1)]
    optimizer: Literal["adamw", "sgd"]
    lr: Positive
    backbone_lr_scale: Annotated[float, Field(gt=0, le=1)]
    weight_decay: NotNegative
    warmup_epochs: NotNegative
    freeze_epochs: Annotated[int, Field(ge=0)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    clip_norm: Positive
    ema: Annotated[float, Field(ge=0, lt=1)]
    precision: Literal["auto", "float32", "bfloat16"]
    select: Literal["val_accuracy", "val_loss"]
    patience: Annotated[int, Field(ge=0)]
    augment: AugmentParams
    val_batch_size: Annotated[int, Field(ge=1)]
    channels_last: bool
    fused: bool
    compile: bool
    out_of_memory: Literal["stop", "halve"]
    finetune: dict[str, Any]
    profile: bool = False

    @model_validator(mode="after")
    def _starts_within_the_run(self) -> TrainParams:
        for name in ("warmup_epochs", "freeze_epochs"):
            epochs = getattr(self, name)
            if epochs >= self.epochs:
                raise ValueError(f"{name} ({epochs:g}) must be less than epochs ({self.epochs})")
        return self


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class WeightsFile(Section):
    """A local checkpoint, pinned by its checksum."""

    file: str
    sha256: Sha256


class WeightsHub(Section):
    """``model.safetensors`` of a repository on the Hugging Face hub, at one commit."""

    hub: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    sha256: Sha256


def _kind(value: Any) -> str:
    """Return the form of ``weights``, so that only its errors are reported."""
    if isinstance(value, WeightsHub) or (isinstance(value, dict) and "file" not in value):
        return "Hub"
    return "File" if isinstance(value, WeightsFile | dict) else "Name"


class BackboneParams(Section):
    """A backbone: a timm model, its initial weights, and overrides of the recipe.

    ``pretrained`` are weights that are not pinned yet; no stage trains with them.
    """

    model: Annotated[str, Field(min_length=1)]
    weights: Annotated[
        Annotated[Literal["random", "pretrained"], Tag("Name")]
        | Annotated[WeightsFile, Tag("File")]
        | Annotated[WeightsHub, Tag("Hub")],
        Discriminator(_kind),
    ]
    train: dict[str, Any]


def recipe_of(
    section: dict[str, Any], overrides: dict[str, Any], pretrained: bool
) -> dict[str, Any]:
    """Return the recipe of one backbone.

    Args:
        section: `train:` of params.yaml.
        overrides: the backbone's own `train:`.
        pretrained: whether it has pretrained weights; then ``finetune`` applies, too.
    """
    finetune = section["finetune"] if pretrained else {}
    recipe = merge(merge(section, finetune), overrides) | {"finetune": {}}
    return {key: value for key, value in recipe.items() if key not in WITHOUT_EFFECT}


def keys_with_effect() -> list[str]:
    """Return the keys of `train:` that results depend on, with their section."""
    return [f"train.{key}" for key in TrainParams.model_fields if key not in WITHOUT_EFFECT]


def merge(recipe: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return ``recipe`` with ``overrides`` merged into it, recursively."""
    merged = dict(recipe)
    for key, value in overrides.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = merge(old, value)
        merged[key] = value
    return merged
