"""Measure the overhead of scheduling many training runs with Snakemake.

Run from the repository's root, on an idle machine: `python benchmarks/scheduling.py`. Trains four
backbones with three seeds each with the sample's recipe or, with `--source archive`, with that of
presets/archive.yaml on the real images. Everything before training is done first; then `snakemake`
trains on all cores. Its wall seconds are compared with the CPU seconds of the training itself,
without start-up, divided by the number of cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from carbench.params.presets import read_preset  # noqa: E402
from conftest import ARCHIVE, copy_repository  # noqa: E402


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", choices=["sample", "archive"], default="sample")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    args = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        project = copy_repository(Path(folder) / "study")
        params = read_preset(ROOT / f"presets/{args.source}.yaml")
        if args.source == "archive":
            params["data"]["path"] = str(ARCHIVE)
        params["seeds"] = list(range(args.seeds))
        params["tune"]["learning_rates"] = []
        project.set_params(params)
        names = list(params["backbones"])
        before = [f"results/tune/{name}.csv" for name in names]
        before += [f"results/weights/{name}.safetensors" for name in names]
        project.run("snakemake", *before, "--quiet", "all")
        runs = [f"results/train/{name}/{seed}" for name in names for seed in params["seeds"]]
        targets = [f"{run}/model.safetensors" for run in runs]
        for _ in range(args.repeats):
            for run in runs:
                shutil.rmtree(project.root / run, ignore_errors=True)
            for folder in (".carbench", ".dvc/cache/carbench"):
                for records in (project.root / folder / "records").glob("train@*"):
                    shutil.rmtree(records)
            (project.root / "dvc.lock").unlink(missing_ok=True)
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            started = time.perf_counter()
            project.run("snakemake", *targets, "--cores", str(args.cores), "--quiet", "all")
            wall = time.perf_counter() - started
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
            records = [
                json.loads((project.root / run / "provenance.json").read_text()) for run in runs
            ]
            pure = sum(record["cpu_seconds"] for record in records)
            ratios.append(wall / (pure / args.cores))
            print(
                f"{len(runs)} training runs: {wall:.1f} wall s, {spent:.1f} CPU s in all processes,"
                f" {pure:.1f} CPU s in training; {ratios[-1]:.2f} times what {args.cores} cores "
                "need for training alone",
                flush=True,
            )
    print(f"median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
