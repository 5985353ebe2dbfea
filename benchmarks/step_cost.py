"""Compare the cost of training steps in carbench and timm, including the reading of images.

Run from the repository's root, on an idle machine: `python benchmarks/step_cost.py --sizes 64 160
224`. Both train on the same images of the study with the same recipe, channels_last and a fused
optimiser; carbench reads the images from its pack, timm from the files. Each system has its own
process, and their rounds alternate. timm's numbers of workers, and bfloat16 where carbench uses it,
are tried first in one round each; the setting that takes the fewest CPU seconds and the one that
takes the least time are then measured. Prints medians, and the ratio of carbench to timm, computed
round by round.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from study import (
    OTHER_RATE,
    PEERS,
    RATES,
    SMALL,
    add_options,
    augmentation_flags,
    link,
    make_project,
    middle,
    models_of,
    pack_size,
    preset_of,
    preset_recipe,
    same_recipe_flags,
    table_row,
)

from carbench.core.provenance import hardware
from carbench.data.pack.reading import find_rows
from carbench.data.split.table import read_split
from conftest import Project

HEAD = (
    *("px", "model", "threads", "system", "CPU s per 1,000 images", "carbench / timm"),
    *("wall s per 1,000 images", "carbench / timm"),
)
ENDLESS = 10_000  # more epochs than any measurement takes


class Stepper:
    """A process of peers/rounds.py, which takes a round of steps on request."""

    def __init__(self, system: str, words: list[object], images: int) -> None:
        command = [sys.executable, PEERS / "rounds.py", system, *words]
        self._process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._thousands = images / 1000
        self.precision: str = self._read()["precision"]

    def take(self, setting: dict[str, Any]) -> dict[str, float]:
        """Take a round of steps; return its CPU and wall seconds per 1,000 images."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(setting) + "\n")
        self._process.stdin.flush()
        return {key: value / self._thousands for key, value in self._read().items()}

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        if not (line := self._process.stdout.readline()):
            sys.exit("a process of peers/rounds.py failed; its output is above")
        content: dict[str, Any] = json.loads(line)
        return content


def prepare(
    project: Project, folder: Path, params: dict[str, Any], args: argparse.Namespace
) -> Any:
    """Pack the images at a size, and link the ones to train on in ``folder``.

    Returns:
        The rows in the pack and the class indices of these images.
    """
    project.set_params(params)
    wanted = ["results/split/split.csv", "results/pack/index.csv"]
    project.run("snakemake", *wanted, "--quiet", "all")
    train = read_split(project.root / "results/split/split.csv", 0).of_split("train")
    count = args.steps * args.batch
    if len(train) < count:
        sys.exit(f"--steps {args.steps} --batch {args.batch}: there are {len(train)} images")
    # Evenly spaced, so that all classes are represented; both systems use the same images.
    chosen = train.select(np.arange(count) * len(train) // count)
    for row in chosen:
        link(project, row, folder / "train")
    pack_rows = find_rows(project.root / "results/pack", chosen.images)
    return pack_rows.tolist(), chosen.labels.tolist()


def measure(
    ours: Stepper, theirs: Stepper, threads: int, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Measure rounds of carbench and of timm with its best settings, alternating."""
    own = {"threads": threads}
    amps = (False, True) if ours.precision == "bfloat16" else (False,)
    others = [
        {"threads": threads, "workers": workers, "amp": amp}
        for workers in args.workers
        for amp in amps
    ]
    ours.take(own)  # allocations, choice of kernels, start of workers
    for setting in others:
        theirs.take(setting)
    trial = [theirs.take(setting) for setting in others]
    chosen = {min(range(len(others)), key=lambda i: trial[i][key]) for key in ("cpu", "wall")}
    rounds = []
    for _ in range(args.rounds):
        cost = ours.take(own)
        rounds.append({"system": "carbench", "setting": ours.precision, **cost})
        for place in sorted(chosen):
            setting = others[place]
            words = f"{setting['workers']} workers, " + (
                "bfloat16" if setting["amp"] else "float32"
            )
            rounds.append({"system": "timm", "setting": words, **theirs.take(setting)})
    return rounds


def print_rows(size: int, model: str, threads: int, rounds: list[dict[str, Any]]) -> None:
    """Print one row per setting."""
    ours = [each for each in rounds if each["system"] == "carbench"]
    for system, setting in dict.fromkeys((each["system"], each["setting"]) for each in rounds):
        own = [each for each in rounds if (each["system"], each["setting"]) == (system, setting)]
        cells: list[object] = [size, model, threads, f"{system} ({setting})"]
        for key in ("cpu", "wall"):
            cells.append(middle([each[key] for each in own], 2))
            shares = [one[key] / other[key] for one, other in zip(ours, own, strict=True)]
            cells.append("" if system == "carbench" else middle(shares, 2))
        print(table_row(cells), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--steps", type=int, default=8, help="steps per round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    preset = preset_of(args)
    runs: list[dict[str, Any]] = []
    packing = []
    print(table_row(list(HEAD)) + "\n" + table_row(["---"] * len(HEAD)), flush=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        project, params = make_project(folder, args)
        for size in args.sizes:
            params["train"] |= {"image_size": size}
            params["pack"]["size"] = pack_size(size)
            chosen = prepare(project, folder / "images", params, args)
            (folder / "images.json").write_text(json.dumps(chosen))
            with (project.root / "results/benchmarks/pack.tsv").open(newline="") as file:
                packing.append(float(next(csv.DictReader(file, delimiter="\t"))["cpu_time"]))
            models = dict.fromkeys(models_of(args, size))
            if not args.models and args.device == "cpu":
                models |= dict.fromkeys(SMALL)
            for model in models:
                recipe = preset_recipe(preset, model, False) | {
                    "image_size": size,
                    "batch_size": args.batch,
                }
                recipe |= {"epochs": ENDLESS, "freeze_epochs": 0, "device": args.device}
                recipe |= {"lr": RATES.get(model, OTHER_RATE), "threads": args.threads[0]}
                common = ["--model", model]
                words = [project.root / "results/pack", folder / "images.json", *common]
                ours = Stepper("carbench", [*words, "--recipe", json.dumps(recipe)], len(chosen[0]))
                words = [folder / "images", *common, "--lr", recipe["lr"], "--epochs", ENDLESS]
                words += ["--size", size, "--batch", args.batch, "--seed", 0, "--workers", 0]
                words += ["--device", args.device, "--channels-last", *same_recipe_flags(recipe)]
                words += augmentation_flags(recipe, preset["pack"]["fit"])
                theirs = Stepper("timm", words, len(chosen[0]))
                for threads in args.threads:
                    rounds = measure(ours, theirs, threads, args)
                    print_rows(size, model, threads, rounds)
                    here = {"size": size, "model": model, "threads": threads}
                    runs += [here | each for each in rounds]
                ours.close()
                theirs.close()
    decoding = ", ".join(
        f"{seconds:.1f} at {size} px" for size, seconds in zip(args.sizes, packing, strict=True)
    )
    print(f"\nPacking all images once, for all of carbench's training runs, CPU s: {decoding}.")
    print(f"Medians of {args.rounds} rounds of {args.steps} steps, batches of {args.batch}.")
    if args.json:
        settings = {key: str(value) for key, value in vars(args).items()}
        document = {"settings": settings, "hardware": hardware(), "packing": packing, "runs": runs}
        args.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
