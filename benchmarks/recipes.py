"""Compare fine-tuning recipes on val, with one change at a time.

Run in a study in which `split`, `pack` and `weights` are done, for example, with
presets/archive.yaml, after `snakemake results/pack/index.csv results/split/split.csv
results/weights/lite0.safetensors`:

    python benchmarks/recipes.py --output recipes.csv --backbones lite0 --seeds 0

Each training run is one row of the CSV file, with its best epoch on val and its CPU seconds.
Existing rows are not trained again, so that an interrupted search resumes. The test images are not
read. Prints a Markdown table: mean val accuracy and loss of each recipe over backbones and seeds.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import statistics
import time
from pathlib import Path
from typing import Any

from carbench.core.params import read_yaml
from carbench.core.tables import read_table
from carbench.params.train import TrainParams, recipe_of

STUDY = Path("results")
COLUMNS = (
    "recipe",
    "backbone",
    "seed",
    "epoch",
    "val_accuracy",
    "val_loss",
    "cpu_seconds",
    "changes",
)

# Keys of `train:` that differ from the study's recipe for trained weights.
QUICK = {"image_size": 96, "epochs": 4}
SLOW = QUICK | {"lr": 1.0e-3}
LARGER = {"image_size": 128, "epochs": 4}
RECIPES: dict[str, dict[str, Any]] = {
    "96 px, lr 3e-4": QUICK | {"lr": 3.0e-4},
    "96 px, lr 1e-3": SLOW,
    "96 px, lr 3e-3": QUICK | {"lr": 3.0e-3},
    "96 px, lr 6e-3": QUICK | {"lr": 6.0e-3},
    "96 px, lr 1e-2": QUICK | {"lr": 1.0e-2},
    "96 px, lr 3e-3, body at 0.3": QUICK | {"lr": 3.0e-3, "backbone_lr_scale": 0.3},
    "96 px, lr 3e-3, body at 0.1": QUICK | {"lr": 3.0e-3, "backbone_lr_scale": 0.1},
    "96 px, lr 1e-3, head alone for 1 epoch": SLOW | {"freeze_epochs": 1},
    "96 px, lr 1e-3, weight average 0.99": SLOW | {"ema": 0.99},
    "96 px, lr 1e-3, crops from 0.35": SLOW | {"augment": {"min_area": 0.35}},
    "96 px, lr 3e-3, mixup 0.2": QUICK | {"lr": 3.0e-3, "augment": {"mixup": 0.2}},
    "96 px, lr 3e-3, 6 epochs": QUICK | {"lr": 3.0e-3, "epochs": 6},
    "128 px, lr 3e-3": LARGER | {"lr": 3.0e-3},
    "128 px, lr 2e-3": LARGER | {"lr": 2.0e-3},
    "128 px, lr 3e-3, weight average 0.99": LARGER | {"lr": 3.0e-3, "ema": 0.99},
    "128 px, lr 3e-3, crops from 0.5": LARGER | {"lr": 3.0e-3, "augment": {"min_area": 0.5}},
    "128 px, lr 3e-3, batches of 16": LARGER | {"lr": 3.0e-3, "batch_size": 16},
    "160 px, lr 3e-3, 3 epochs": {"lr": 3.0e-3, "image_size": 160, "epochs": 3},
}


def train(work: tuple[str, dict[str, Any], str, int]) -> dict[str, Any]:
    """Train one backbone with one recipe and seed, and return its row."""
    from carbench.models.devices import set_up_device
    from carbench.training.run import load_data, train_backbone

    name, changes, backbone, seed = work
    base = recipe_of(read_yaml(Path("params.yaml"))["train"], changes, pretrained=True)
    params = TrainParams.model_validate(base)
    device = set_up_device(params, "train")
    split = STUDY / "split/split.csv"
    started = time.process_time()
    data = load_data(STUDY / "pack", split, seed, device)
    weights = STUDY / f"weights/{backbone}.safetensors"
    best = train_backbone(weights, data, params, seed, backbone)[0].best
    return {
        "recipe": name,
        "backbone": backbone,
        "seed": seed,
        "epoch": best.epoch,
        "val_accuracy": f"{best.val_accuracy:.5f}",
        "val_loss": f"{best.val_loss:.5f}",
        "cpu_seconds": f"{time.process_time() - started:.1f}",
        "changes": json.dumps(changes),
    }


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of earlier runs."""
    return read_table(path) if path.exists() else []


def table(rows: list[dict[str, str]]) -> list[str]:
    """Return a Markdown table, sorted by mean val accuracy."""
    lines = ["| recipe | runs | val accuracy, % | val loss | CPU s |", "|---|--:|--:|--:|--:|"]
    by_recipe: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_recipe.setdefault(row["recipe"], []).append(row)

    def mean(own: list[dict[str, str]], key: str) -> float:
        return statistics.mean(float(row[key]) for row in own)

    for name, own in sorted(by_recipe.items(), key=lambda item: -mean(item[1], "val_accuracy")):
        lines.append(
            f"| {name} | {len(own)} | {100 * mean(own, 'val_accuracy'):.1f} | "
            f"{mean(own, 'val_loss'):.3f} | {mean(own, 'cpu_seconds'):.0f} |"
        )
    return lines


def main() -> None:
    """Train the missing rows, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="CSV file to append to")
    parser.add_argument("--backbones", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()

    rows = read(args.output)
    done = {(row["recipe"], row["backbone"], int(row["seed"])) for row in rows}
    work = [
        (name, RECIPES[name], backbone, seed)
        for name in args.recipes
        for seed in args.seeds
        for backbone in args.backbones
        if (name, backbone, seed) not in done
    ]
    with multiprocessing.get_context("spawn").Pool(args.processes, maxtasksperchild=1) as pool:
        for row in pool.imap_unordered(train, work):
            print(row, flush=True)
            new = not args.output.exists()
            with args.output.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                if new:
                    writer.writeheader()
                writer.writerow(row)
    wanted = set(args.recipes)
    print("\n".join(table([row for row in read(args.output) if row["recipe"] in wanted])))


if __name__ == "__main__":
    main()
