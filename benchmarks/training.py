"""Compare whole training runs of carbench, timm's recipe and a usual PyTorch script.

Run from the repository's root, on an idle machine: `python benchmarks/training.py`. From random
initialisation, all three have the same backbone, images, image size, epochs, batch size, learning
rate, weight decay, label smoothing and gradient clipping, and their own loader, augmentation and
loop. With `--pretrained FOLDER`, carbench and timm fine-tune the ImageNet weights FOLDER/<timm
model>.safetensors, carbench with the recipe of `--preset`, timm with FINE_TUNING. Each keeps the
epoch that is best on val; its accuracy on the clean test images is computed outside the measured
time. Whole processes are measured, imports included, one at a time, with the systems alternating.
The searches beforehand (timm's workers, learning rates) and carbench's packing, done once for all,
are reported separately.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from study import (
    OTHER_RATE,
    PEERS,
    RATES,
    add_options,
    augmentation_flags,
    link_images,
    make_project,
    models_of,
    pack_size,
    preset_of,
    preset_recipe,
    same_recipe_flags,
    weights_of,
)
from training_table import Run, table

from carbench.core.provenance import PACKAGES, hardware
from carbench.core.tables import read_table
from carbench.engines.engine_jobs import dvc_jobs
from conftest import Project, active_environment

SCRIPTS = {"timm": "timm_recipe.py", "usual": "usual.py"}
# timm's advice on fine-tuning. AdamW, batches of 32, 30 epochs, weight decay 0.01 and learning rate
# 1e-4 are from the one example in its documentation that fine-tunes on a small set (hfdocs,
# "Scripts", plant pathology). Layer decay, the small epsilon and clipping at 1.0 are from its
# author's runs (0.7 to 0.8; model cards of timm/*_ft_inat21 and
# timm/vit_base_patch16_224.augreg2_in21k_ft_in1k); 5 warm-up epochs are train.py's default. Short
# training runs can use the weight average only with its own warm-up.
FINE_TUNING_EPOCHS = 30
FINE_TUNING_RATE = 1e-4
FINE_TUNING = [
    *("--batch", 32, "--weight-decay", 0.01, "--opt-eps", 1e-6, "--layer-decay", 0.75),
    *("--warmup-epochs", 5, "--clip-grad", 1.0, "--smoothing", 0.1),
    *("--model-ema", "--model-ema-decay", 0.9998, "--model-ema-warmup"),
]
EPOCH = re.compile(r"epoch (\d+)/\d+: .* val accuracy ([\d.]+) %")


def prepare(project: Project, params: dict[str, Any], size: int, args: argparse.Namespace) -> None:
    """Set the study's parameters for an image size, and run everything before training."""
    preset = preset_of(args)
    params["seeds"] = list(range(args.seeds))
    params["pack"]["size"] = pack_size(size)
    params["train"] = preset["train"] | {"image_size": size, "device": args.device}
    params["train"]["finetune"] = {}
    if args.pretrained:
        params["tune"] = preset["tune"]
    else:
        params["train"] |= {"batch_size": args.batch}
    if epochs := args.epochs or (None if args.pretrained else 3):
        params["train"] |= {"epochs": epochs}
        for name in ("warmup_epochs", "freeze_epochs"):
            params["train"][name] = min(params["train"][name], epochs - 1)
    params["backbones"] = {}
    for model in models_of(args, size):
        recipe = preset_recipe(preset, model, bool(args.pretrained))
        changed = {key: recipe[key] for key in recipe if recipe[key] != params["train"][key]}
        if not args.pretrained:
            changed = {"lr": RATES.get(model, OTHER_RATE)}
        elif params["tune"]["learning_rates"]:
            changed.pop("lr", None)
        if args.epochs:
            changed.pop("epochs", None)
        weights = weights_of(args.pretrained, model)
        params["backbones"][model] = {"model": model, "weights": weights, "train": changed}
    project.set_params(params)
    wanted = [f"results/tune/{name}.csv" for name in params["backbones"]]
    wanted += [f"results/weights/{name}.safetensors" for name in params["backbones"]]
    project.run("snakemake", *wanted, "results/split/split.csv", "--quiet", "all")


def by_carbench(project: Project, model: str, seed: int) -> Run:
    """Train and evaluate with the commands of the jobs, as the engines do."""
    jobs = dvc_jobs(project.root)
    command = shlex.split(jobs[f"train@{model}-{seed}"].command)
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=project.root, env=active_environment(), stderr=subprocess.PIPE, text=True
    )
    watched, said, epochs = psutil.Process(process.pid), [], []
    for line in process.stderr or ():
        said.append(line)
        if found := EPOCH.search(line):  # CPU time so far, read while the process continues
            used = watched.cpu_times()
            val = float(found[2]) / 100
            cpu = used.user + used.system
            epochs.append({"epoch": int(found[1]), "val_accuracy": val, "cpu": cpu})
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status:
        sys.exit(f"carbench {model} {seed}: {''.join(said)[-2000:]}")
    project.run(*shlex.split(jobs[f"evaluate@{model}-{seed}"].command))
    predictions = project.root / f"results/evaluate/{model}/{seed}/predictions.csv"
    clean = [row for row in read_table(predictions) if row["leaked"] == "0"]
    right = sum(row["predicted"] == row["class"] for row in clean)
    cpu = usage.ru_utime + usage.ru_stime
    return {"wall": wall, "cpu": cpu, "accuracy": right / len(clean), "epochs": epochs}


def by_peer(system: str, images: Path, words: list[object]) -> Run:
    """Train with one of the scripts in peers/."""
    command = [str(word) for word in (sys.executable, PEERS / SCRIPTS[system], images, *words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{shlex.join(command)}: {done.stderr[-2000:]}")
    *epochs, found = [json.loads(line) for line in done.stdout.splitlines()]
    return {**found, "epochs": epochs}


def words_of(system: str, recipe: dict[str, Any], size: int, args: argparse.Namespace) -> Any:
    """Return a peer's options for a carbench recipe, except model, seed, workers and threads."""
    words: list[object] = ["--size", size, "--device", args.device, "--lr", recipe["lr"]]
    words += ["--batch", recipe["batch_size"], "--epochs", recipe["epochs"]]
    if system == "timm":
        words += ["--channels-last", *augmentation_flags(recipe, preset_of(args)["pack"]["fit"])]
        words += ["--amp"] if args.device == "cuda" else []
        if args.pretrained:
            epochs = args.peer_epochs or max(FINE_TUNING_EPOCHS, recipe["epochs"])
            words += [*FINE_TUNING, "--epochs", epochs]
        else:
            words += same_recipe_flags(recipe)
        words += shlex.split(args.peer_args)
    return words


def try_out(images: Path, words: list[object], args: argparse.Namespace) -> tuple[Any, float]:
    """Choose timm's workers and threads by the cost of an epoch, its learning rate on val.

    Returns:
        The chosen options, and the CPU seconds of the search for the learning rate.
    """
    settings: list[list[object]] = [
        ["--workers", workers, "--threads", threads]
        for workers in args.workers
        for threads in args.threads
    ]
    chosen = settings[0]
    if len(settings) > 1:
        trial = [by_peer("timm", images, [*words, *each, "--epochs", 1]) for each in settings]
        chosen = settings[min(range(len(trial)), key=lambda i: trial[i][args.best])]
    if not args.pretrained:
        return chosen, 0.0
    rates: list[list[object]] = [["--lr", rate] for rate in args.peer_lr]
    if len(rates) == 1:
        return chosen + rates[0], 0.0
    runs = [by_peer("timm", images, [*words, *chosen, *each]) for each in rates]
    best = [max(epoch["val_accuracy"] for epoch in run["epochs"]) for run in runs]
    return chosen + rates[best.index(max(best))], sum(run["cpu"] for run in runs)


def measure(
    project: Project, images: Path, size: int, args: argparse.Namespace
) -> tuple[list[Run], list[str]]:
    """Return all training runs of a size, and notes on the searches before them."""
    runs: list[Run] = []
    notes = []
    chosen: dict[tuple[str, str], list[object]] = {}
    params = project.params
    for model in params["backbones"]:
        recipe = preset_recipe({**params}, model, bool(args.pretrained))
        for system in args.systems[1:]:
            words = ["--model", model, "--seed", 0, *words_of(system, recipe, size, args)]
            if system == "timm" and args.pretrained:
                words += ["--initial-checkpoint", params["backbones"][model]["weights"]["file"]]
            best: list[object] = ["--workers", 0]
            if system == "timm":
                best, searched = try_out(images, words, args)
                note = f"timm's learning-rate search, {model}, {size} px: {searched:.1f} CPU s."
                notes += [note] * (searched > 0)
            chosen[system, model] = [*words, *best]
        if params["tune"]["learning_rates"]:
            tsv = project.root / f"results/benchmarks/tune/{model}.tsv"
            cost = next(csv.DictReader(tsv.open(newline=""), delimiter="\t"))["cpu_time"]
            notes.append(
                f"carbench's learning-rate search (tune), {model}, {size} px: {cost} CPU s."
            )
    for seed in range(args.seeds):
        for model in params["backbones"]:
            for system in args.systems:
                run: Run = {"size": size, "model": model, "system": system, "seed": seed}
                if system == "carbench":
                    run |= {"setting": "", **by_carbench(project, model, seed)}
                else:
                    words = [*chosen[system, model], "--seed", seed]
                    run |= {"words": [str(word) for word in words], "setting": setting_of(words)}
                    run |= by_peer(system, images, words)
                runs.append(run)
                print(
                    {key: run[key] for key in run if key != "epochs"}, file=sys.stderr, flush=True
                )
    return runs, notes


def setting_of(words: list[object]) -> str:
    """Return a peer's main options as text in parentheses."""
    last = {str(word): value for word, value in itertools.pairwise(words)}
    names = {"--workers": "workers", "--threads": "threads", "--lr": "lr", "--epochs": "epochs"}
    found = [f"{name} {last[word]}" for word, name in names.items() if word in last]
    return f" ({', '.join(found)})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    add = parser.add_argument
    add("--epochs", type=int, help="default: 3; with --pretrained, those of the recipe")
    add("--seeds", type=int, default=3)
    add("--systems", nargs="+", choices=["timm", "usual"], help="default: all that are possible")
    add("--best", choices=["cpu", "wall"], default="cpu", help="cost by which to set timm up")
    add("--pretrained", type=Path, metavar="FOLDER", help="folder of weights to fine-tune")
    add("--peer-epochs", type=int, help="epochs of timm's fine-tuning")
    add("--peer-lr", type=float, nargs="+", default=[FINE_TUNING_RATE], help="to try on seed 0")
    add("--peer-args", default="", help="more options for peers/timm_recipe.py")
    add("--reach", type=float, default=0.5, help="val accuracy of the last column")
    args = parser.parse_args()
    able = ["timm"] if args.pretrained else list(SCRIPTS)
    args.systems = ["carbench", *(args.systems or able)]
    runs: list[Run] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        project, params = make_project(folder, args)
        for size in args.sizes:
            prepare(project, params, size, args)
            rows = link_images(project, folder / "images")
            clean = sum(row.split == "test" for row in rows)
            with (project.root / "results/benchmarks/pack.tsv").open(newline="") as file:
                packing = next(csv.DictReader(file, delimiter="\t"))["cpu_time"]
            notes.append(
                f"Packing once for all of carbench's training runs, {size} px: {packing} CPU s."
            )
            found, said = measure(project, folder / "images", size, args)
            runs += found
            notes += said
    print("\n".join(table(runs, clean, args.reach)) + "\n")
    print("\n".join(notes))
    if args.json:
        settings = {key: str(value) for key, value in vars(args).items() if key != "json"}
        versions = {name: version(name) for name in PACKAGES}
        document = {"settings": settings, "hardware": hardware(), "versions": versions}
        document |= {"notes": notes, "clean_test_images": clean, "runs": runs}
        args.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
