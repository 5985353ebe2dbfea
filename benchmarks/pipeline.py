"""Measure the pipeline's overhead: start-up, runs with nothing to do and, with `--run`, whole runs.

Run from the repository's root, after `make run`: `python benchmarks/pipeline.py` (`make bench`).
Whole runs are in fresh clones. Prints the median and range of several runs, with the hardware and
the version of Python.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from carbench.core.provenance import hardware
from carbench.params.presets import apply_preset

ROOT = Path(__file__).parents[1]
LIGHT_STAGES = (
    "fetch",
    "audit",
    "split",
    "pack",
    "weights",
    "choose",
    "calibrate",
    "aggregate",
    "plot",
    "report",
)
TORCH_STAGES = ("tune", "train", "evaluate", "cost")


def measure(
    command: list[str], repeats: int, folder: Path = ROOT
) -> tuple[list[float], list[float]]:
    """Run a command several times; return the wall and the CPU seconds of each run."""
    wall, cpu = [], []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        wall.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return wall, cpu


def show(what: str, times: tuple[list[float], list[float]]) -> None:
    """Print a row: medians and range of the wall seconds, median of the CPU seconds."""
    wall, cpu = times
    print(
        f"{what:44} {statistics.median(wall):7.2f} ({min(wall):.2f} to {max(wall):.2f}) "
        f"{statistics.median(cpu):9.2f}"
    )


def show_whole_run(preset: str, clone: Path) -> None:
    """Run a preset's study in a clone, and print its row."""
    (clone / "params.yaml").write_text(apply_preset(clone / f"presets/{preset}.yaml"))
    times = measure(["snakemake", "--cores", "2"], 1, clone)
    show(f"whole run of presets/{preset}.yaml", times)


def in_fresh_clone(run: Callable[[Path], None]) -> None:
    """Call ``run`` with a clone of this repository's last commit, removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "carbench"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        run(clone)
        shutil.rmtree(clone)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="runs per short command")
    parser.add_argument("--run", action="store_true", help="also whole runs in fresh clones")
    arguments = parser.parse_args()

    print(json.dumps(hardware()))
    print(f"load average {os.getloadavg()[0]:.2f}, python {sys.version.split()[0]}\n")
    print(f"{'command':44} {'wall s, median (range)':>26} {'CPU s':>9}")
    for stage in LIGHT_STAGES + TORCH_STAGES:
        command = [sys.executable, f"scripts/{stage}.py", "--help"]
        show(f"start of scripts/{stage}.py", measure(command, arguments.repeats))
    show("snakemake -n, nothing to do", measure(["snakemake", "-n"], arguments.repeats))
    show("dvc status", measure(["dvc", "status"], arguments.repeats))
    if arguments.run:
        for preset in ("smoke", "sample"):
            in_fresh_clone(partial(show_whole_run, preset))


if __name__ == "__main__":
    main()
