"""Options, studies and peers' options that training.py and step_cost.py share."""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "benchmarks/peers"
sys.path.insert(0, str(ROOT / "tests"))

from carbench.data.split.table import SplitRow, read_split  # noqa: E402
from carbench.params.presets import read_preset  # noqa: E402
from carbench.params.train import recipe_of  # noqa: E402
from conftest import ARCHIVE, Project, copy_repository  # noqa: E402

# Up to this size timm's tiny test models are used, above it models that are deployed without a GPU.
TINY_PIXELS = 96
TINY = ("test_resnet", "test_efficientnet", "mobilenetv3_small_050", "test_convnext")
SMALL = ("resnet18", "tf_efficientnet_lite0", "mobilenetv3_small_100", "convnext_atto")
LARGE = ("resnet50", "efficientnet_b0", "mobilenetv3_large_100", "convnext_tiny")
# Learning rates from random initialisation; OTHER_RATE is for the other models.
RATES = dict.fromkeys(TINY, 0.006) | {"test_convnext": 0.003, "convnext_tiny": 0.0005}
OTHER_RATE = 0.001
CROP_MODES = {"squash": "squash", "crop": "center", "pad": "border"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that both scripts share."""
    add = parser.add_argument
    add("--source", choices=["smoke", "sample", "archive"], default="archive")
    add("--preset", type=Path, help="preset with carbench's recipe (default: the source's)")
    add("--sizes", type=int, nargs="+", default=[64], help="image sizes in pixels")
    add("--models", nargs="+", help="names of timm models (default: by size and device)")
    add("--batch", type=int, default=32)
    add("--workers", type=int, nargs="+", default=[0, 1, 2], help="of timm's loader, to try")
    add("--threads", type=int, nargs="+", default=[1, 2])
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--json", type=Path, help="also write every run to this file")


def preset_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the preset that the recipe is read from."""
    return read_preset(args.preset or ROOT / f"presets/{args.source}.yaml")


def preset_recipe(preset: dict[str, Any], model: str, pretrained: bool) -> dict[str, Any]:
    """Return the recipe of a timm model, with the preset's changes for this model."""
    own = [
        backbone["train"]
        for backbone in preset["backbones"].values()
        if backbone["model"].split(".")[0] == model
    ]
    return recipe_of(preset["train"], own[0] if own else {}, pretrained)


def make_project(folder: Path, args: argparse.Namespace) -> tuple[Project, dict[str, Any]]:
    """Return a copy of the repository, and parameters for a study of the source's images."""
    params = read_preset(ROOT / f"presets/{args.source}.yaml")
    if args.source == "archive":
        params["data"]["path"] = str(ARCHIVE)
    params["tune"]["learning_rates"] = []
    params["screen"]["candidates"] = {"all": []}  # nothing is screened, at any size
    params["screen"]["features"]["image_size"] = 16
    params["pack"]["fit"] = preset_of(args)["pack"]["fit"]
    for stage in ("evaluate", "cost"):
        params[stage]["device"] = args.device
    return copy_repository(folder / "study"), params


def pack_size(size: int) -> int:
    """Return the size of packed images for a model with an input of ``size`` pixels."""
    return size + size // 8


def weights_of(folder: Path | None, model: str) -> str | dict[str, str]:
    """Return the key ``weights:`` of a backbone: random, or the model's file, pinned by hash."""
    if folder is None:
        return "random"
    path = (folder / f"{model}.safetensors").resolve()
    return {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def link_images(project: Project, folder: Path) -> list[SplitRow]:
    """Link the images of the split in the layout of ImageFolder, and return its rows.

    Leaked test images are left out.
    """
    every = read_split(project.root / "results/split/split.csv", 0)
    rows = [row for row in every if not (row.leaked and row.split == "test")]
    for row in rows:
        link(project, row, folder / row.split)
    return rows


def link(project: Project, row: SplitRow, folder: Path) -> None:
    """Create a link to an image in the subfolder of its class."""
    path = folder / row.label / row.image.replace("/", "-")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(project.root / "results/data/images" / row.image)


def augmentation_flags(recipe: dict[str, Any], fit: str) -> list[object]:
    """Return timm's options for carbench's crops, colour changes and fit."""
    augment = recipe["augment"]
    stretch = augment["max_stretch"]
    return [
        *("--scale", augment["min_area"], 1.0, "--ratio", 1 / stretch, stretch),
        *("--color-jitter", augment["brightness"], "--hflip", 0.5 if augment["flip"] else 0.0),
        *("--crop-mode", CROP_MODES[fit]),
    ]


def same_recipe_flags(recipe: dict[str, Any]) -> list[object]:
    """Return timm's options for the rest of a carbench recipe, except learning rate and epochs."""
    flags: list[object] = ["--weight-decay", recipe["weight_decay"]]
    flags += ["--clip-grad", recipe["clip_norm"], "--smoothing", recipe["label_smoothing"]]
    flags += ["--warmup-epochs", round(recipe["warmup_epochs"])]
    flags += ["--reprob", recipe["augment"]["erase"], "--mixup", recipe["augment"]["mixup"]]
    if recipe["ema"]:
        flags += ["--model-ema", "--model-ema-decay", recipe["ema"], "--model-ema-warmup"]
    return flags


def models_of(args: argparse.Namespace, size: int) -> tuple[str, ...]:
    """Return the models to train at a size."""
    if args.models:
        return tuple(args.models)
    if args.device == "cuda":
        return LARGE
    return TINY if size <= TINY_PIXELS else SMALL


def middle(values: list[float], digits: int = 1) -> str:
    """Return the median and, if there are several values, the range as text."""
    median = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table_row(cells: list[object]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"
