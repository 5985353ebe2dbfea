"""Chooses the parameters of a study from a survey of its images and the available hardware."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from carbench.cli.new_study.survey import Survey
from carbench.params.presets import COMPLETE, apply_preset

# Presets with backbones and sizes for machines without and with a GPU.
CPU_STUDY, GPU_STUDY = "archive", "kaggle-cars"
# With fewer images, a quarter of them is fewer than 100 test images, which give intervals of ± 10
# points; cross-validation tests on all images.
FEW_IMAGES = 400
FOLDS = 5
# With fewer images of a class, its recall is very uncertain even if all of them are tested.
FEW_OF_A_CLASS = 20
# With more images, a third seed is not worth its training time.
MANY_IMAGES = 10_000
# Stride of the last stage of most backbones; other sizes waste pixels at the border.
STEP = 32


@dataclass(frozen=True)
class Choice:
    """The chosen parameters.

    Args:
        preset: the preset to start from.
        values: the values that differ from it, by dotted key.
        reasons: one line per choice.
        warnings: one sentence per problem with the images.
    """

    preset: str
    values: dict[str, Any]
    reasons: list[str]
    warnings: list[str]


def choose(found: Survey, has_gpu: bool) -> Choice:
    """Return the parameters for a set of images, except for its location."""
    method, why = _split(found)
    # Read with comments, because the backbones are written with theirs.
    study = YAML().load(apply_preset(GPU_STUDY if has_gpu else CPU_STUDY))
    image_size, pack_size = _sizes(found, study)
    seeds = list(range(FOLDS if method == "kfold" else 3 if found.images <= MANY_IMAGES else 2))
    backbones = study["backbones"]
    for name in [name for name, own in backbones.items() if own["weights"] == "random"]:
        del backbones[name]
    values: dict[str, Any] = {
        "data.classes": [],
        "split.method": method,
        "split.folds": FOLDS,
        "pack.size": pack_size,
        "screen.features.image_size": image_size,
        "backbones": backbones,
        "seeds": seeds,
        "train.image_size": image_size,
    }
    reasons = [
        f"split.method: {method} ({why})",
        f"train.image_size: {image_size}, pack.size: {pack_size} (the median shorter side is "
        f"{found.shorter_side} pixels)",
        f"train.device: {'cuda' if has_gpu else 'cpu (torch sees no GPU)'}",
        f"backbones: {', '.join(own['model'] for own in backbones.values())}, pretrained",
        f"seeds: {seeds} ({_why_seeds(method, found)})",
    ]
    if has_gpu and method == "kfold":
        values["tune.learning_rates"] = []
        reasons.append("tune.learning_rates: [] (kfold leaves no images to tune on)")
    start = GPU_STUDY if has_gpu else COMPLETE
    return Choice(start, values, reasons, _warnings(found, method))


def _split(found: Survey) -> tuple[str, str]:
    """Return the split method and the reason for it."""
    test = found.part("test")
    smallest = min(found.classes.values())
    absent = [label for label, count in test.items() if not count]
    untaught = [label for label, count in found.classes.items() if count == test[label]]
    if any(test.values()) and not absent and not untaught:
        return "published", "there is a test folder"
    if not any(test.values()):
        why = "there is no test folder"
    elif absent:
        why = f"the test folder lacks {_some(absent)}"
    else:
        why = f"only the test folder has {_some(untaught)}"
    if found.images < FEW_IMAGES and smallest >= FOLDS:
        return "kfold", f"{why}, and with few images each one should be tested"
    return "grouped", why


def _sizes(found: Survey, study: dict[str, Any]) -> tuple[int, int]:
    """Return the input size of the models and the packed size, at most that of the images."""
    largest: int = study["train"]["image_size"]
    packed: int = study["pack"]["size"]
    size = max(STEP, min(largest, found.shorter_side // STEP * STEP))
    return size, max(size, min(packed, found.shorter_side))


def _why_seeds(method: str, found: Survey) -> str:
    if method == "kfold":
        return "one for each fold"
    return f"{'up to' if found.images <= MANY_IMAGES else 'more than'} {MANY_IMAGES:,} images"


def _warnings(found: Survey, method: str) -> list[str]:
    needed = FOLDS if method == "kfold" else 3
    test = found.part("test") if method == "published" else dict.fromkeys(found.classes, 1)
    too_small = [
        label
        for label, count in found.classes.items()
        if count < needed or (method == "published" and count - test[label] < 2)
    ]
    warnings = []
    if too_small:
        warnings.append(
            f"too few images of {_some(too_small)}: with split.method: {method} a class needs at "
            f"least {needed} images that are not duplicates"
            + (", 2 of them outside the test folder" if method == "published" else "")
            + ". Add images, or exclude it with data.exclude"
        )
    few = [
        label
        for label, count in found.classes.items()
        if count < FEW_OF_A_CLASS and label not in too_small
    ]
    if few:
        warnings.append(
            f"fewer than {FEW_OF_A_CLASS} images of {_some(few)}: their recall will be uncertain"
        )
    if found.unreadable:
        warnings.append(
            f"{found.unreadable} of {found.measured} sampled files cannot be opened as images; "
            "stage fetch will list them, and stops if there are too many (data.max_bad_fraction)"
        )
    return warnings


def _some(labels: list[str]) -> str:
    return ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
