"""Whole trainings, side by side: carbench, timm's recipe and the usual script.

Run by hand in the repository's root, where nothing else works: `python benchmarks/training.py`.
The same backbone, pictures, size, epochs, batch, rate, decay, smoothing and clipping for all three,
each with its own loader, augmentation and loop; each keeps its epoch that is best on val and is
then tested on the clean test pictures, outside of what is measured. Processes are measured whole,
imports included, one after the other, the systems alternating; carbench's decoding, done once for
all, is told apart. `--device cuda` where there is a GPU.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from carbench.interop.jobs import dvc_jobs  # noqa: E402
from carbench.parts import read_split  # noqa: E402
from carbench.provenance import PACKAGES, hardware  # noqa: E402
from conftest import ARCHIVE, Project, active_environment, copy_repository  # noqa: E402

PEERS = {"timm": "timm_recipe.py", "usual": "usual.py"}
SYSTEMS = ("carbench", *PEERS)
# On a GPU the backbones that people deploy, elsewhere timm's small ones.
MODELS = {
    "cpu": {
        "resnet": ("test_resnet", 0.006),
        "efficientnet": ("test_efficientnet", 0.006),
        "mobilenet": ("mobilenetv3_small_050", 0.006),
        "convnext": ("test_convnext", 0.003),
    },
    "cuda": {
        "resnet": ("resnet50", 0.001),
        "efficientnet": ("efficientnet_b0", 0.001),
        "mobilenet": ("mobilenetv3_large_100", 0.001),
        "convnext": ("convnext_tiny", 0.0005),
    },
}


def prepare(folder: Path, args: argparse.Namespace) -> Project:
    """A study with all that comes before its trainings, and its pictures as the peers want them."""
    project = copy_repository(folder / "study")
    params = yaml.safe_load((ROOT / f"presets/{args.source}.yaml").read_text())
    if args.source == "archive":
        params["data"]["path"] = str(ARCHIVE)
    params["seeds"] = list(range(args.seeds))
    params["tune"]["learning_rates"] = []
    params["pack"]["size"] = args.size + args.size // 8
    params["backbones"] = {
        name: {"model": model, "weights": "random", "train": {"lr": lr}}
        for name, (model, lr) in MODELS[args.device].items()
        if name in args.backbones
    }
    warmup = 1 if args.epochs > 1 else 0
    params["train"] |= {"image_size": args.size, "epochs": args.epochs, "batch_size": args.batch}
    params["train"] |= {"warmup_epochs": warmup, "device": args.device}
    project.set_params(params)
    wanted = [f"results/tune/{name}.csv" for name in params["backbones"]]
    weights = [f"results/weights/{name}.safetensors" for name in params["backbones"]]
    project.run("snakemake", *wanted, *weights, "--quiet", "all")
    for row in read_split(project.root / "results/split/split.csv", 0):
        if row.leaked and row.split == "test":
            continue
        link = folder / "pictures" / row.split / row.label / row.image.replace("/", "-")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(project.root / "results/data/images" / row.image)
    return project


def by_carbench(project: Project, name: str, seed: int) -> dict[str, float]:
    """Train as the engines do, the job's own command."""
    jobs = dvc_jobs(project.root)
    command = shlex.split(jobs[f"train@{name}-{seed}"].command)
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=project.root, env=active_environment(), stderr=subprocess.PIPE, text=True
    )
    said = process.stderr.read() if process.stderr else ""
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status:
        sys.exit(f"carbench {name} {seed}: {said[-2000:]}")
    project.run(*shlex.split(jobs[f"evaluate@{name}-{seed}"].command))
    predictions = project.root / f"results/evaluate/{name}/{seed}/predictions.csv"
    with predictions.open(newline="") as file:
        clean = [row for row in csv.DictReader(file) if row["leaked"] == "0"]
    right = sum(row["predicted"] == row["class"] for row in clean)
    return {
        "wall": wall,
        "cpu": used.ru_utime + used.ru_stime,
        "accuracy": right / len(clean),
    }


def by_peer(
    system: str, folder: Path, name: str, seed: int, args: argparse.Namespace
) -> dict[str, float]:
    """Train with one of the scripts in peers/."""
    model, lr = MODELS[args.device][name]
    command = [sys.executable, ROOT / "benchmarks/peers" / PEERS[system], folder / "pictures"]
    command += ["--model", model, "--lr", lr, "--epochs", args.epochs, "--size", args.size]
    command += ["--batch", args.batch, "--seed", seed, "--device", args.device]
    command += ["--workers", args.workers if system == "timm" else 0]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{system} {name} {seed}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def middle(values: list[float], digits: int = 1) -> str:
    """The median, and from where to where."""
    return (
        f"{statistics.median(values):.{digits}f} "
        f"({min(values):.{digits}f} to {max(values):.{digits}f})"
    )


def table(runs: list[dict[str, Any]], backbones: list[str]) -> list[str]:
    """The result in Markdown."""
    lines = ["| backbone | system | CPU s | of it carbench's | wall s | accuracy on clean test % |"]
    lines += ["|---|---|---|---|---|---|"]
    for name in backbones:
        own = {
            system: [run for run in runs if (run["backbone"], run["system"]) == (name, system)]
            for system in SYSTEMS
        }
        ours = statistics.median(run["cpu"] for run in own["carbench"])
        for system, some in own.items():
            cpu = [run["cpu"] for run in some]
            share = "" if system == "carbench" else f"{ours / statistics.median(cpu):.2f}"
            wall = middle([run["wall"] for run in some])
            accuracy = [100 * run["accuracy"] for run in some]
            spread = statistics.stdev(accuracy) if len(accuracy) > 1 else 0.0
            lines.append(
                f"| {name} | {system} | {middle(cpu)} | {share} | {wall} | "
                f"{statistics.mean(accuracy):.1f} ± {spread:.1f} |"
            )
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", choices=["sample", "archive"], default="archive")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="of timm's loader")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--backbones", nargs="+", default=list(MODELS["cpu"]))
    parser.add_argument("--json", type=Path, help="also write every run to this file")
    args = parser.parse_args()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        project = prepare(folder, args)
        with (project.root / "results/benchmarks/pack.tsv").open(newline="") as file:
            pack = next(csv.DictReader(file, delimiter="\t"))
        for seed in range(args.seeds):
            for name in args.backbones:
                for system in SYSTEMS:
                    found = (
                        by_carbench(project, name, seed)
                        if system == "carbench"
                        else by_peer(system, folder, name, seed, args)
                    )
                    runs.append({"backbone": name, "system": system, "seed": seed, **found})
                    print({key: runs[-1][key] for key in runs[-1]}, file=sys.stderr, flush=True)
    print("\n".join(table(runs, args.backbones)))
    print(f"\nDecoding once for all of carbench's trainings: {float(pack['cpu_time']):.1f} CPU s.")
    if args.json:
        settings = {key: str(value) for key, value in vars(args).items() if key != "json"}
        versions = {name: version(name) for name in PACKAGES}
        document = {"settings": settings, "hardware": hardware(), "versions": versions}
        document |= {"pack": pack, "runs": runs}
        args.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
