"""Measure stage pack: speed by number of cores, and memory by number of images.

Run from the repository's root: `python benchmarks/pack.py`. Packs the archive's images with one
core and with several (`--cores`), alternating, in fresh processes; then sets of 1,000, 10,000 and
100,000 images, in which files are repeated.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from conftest import ARCHIVE  # noqa: E402

# Runs in its own process. Prints the number of images, wall seconds, CPU seconds, and the peak
# memory in MB of all its processes, with shared memory counted once per process.
CODE = """
import itertools, json, os, resource, sys, time
from pathlib import Path
cores, count, size, source, target = sys.argv[1:]
os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:int(cores)])
from carbench.params.pack import PackParams
from carbench.data.pack.writing import write_array
paths = sorted(Path(source).rglob("*.jpg"))
paths = list(itertools.islice(itertools.cycle(paths), int(count) or len(paths)))
started = time.perf_counter()
write_array(Path(target), paths, PackParams(size=int(size), fit="squash"), None)
wall = time.perf_counter() - started
own, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
cpu = sum(used.ru_utime + used.ru_stime for used in (own, theirs))
print(len(paths), wall, cpu, (own.ru_maxrss + int(cores) * theirs.ru_maxrss) / 1000)
"""


def run(cores: int, count: int, size: int, source: Path) -> tuple[int, float, float, float]:
    """Pack in a fresh process; return images, wall seconds, CPU seconds and MB."""
    with tempfile.TemporaryDirectory() as target:
        arguments = [str(each) for each in (cores, count, size, source, target)]
        done = subprocess.run(
            [sys.executable, "-c", CODE, *arguments],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"CARBENCH_PROGRESS": "plain"},
        )
    images, *numbers = map(float, done.stdout.split())
    return int(images), numbers[0], numbers[1], numbers[2]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--size", type=int, default=72)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--counts", type=int, nargs="*", default=[1000, 10_000, 100_000])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        with zipfile.ZipFile(ARCHIVE) as archive:
            archive.extractall(source)
        walls: dict[int, list[float]] = {1: [], args.cores: []}
        for _ in range(args.repeats):
            for cores, wall in walls.items():
                images, seconds, *_ = run(cores, 0, args.size, source)
                wall.append(seconds)
        ratios = [one / more for one, more in zip(*walls.values(), strict=True)]
        for cores, wall in walls.items():
            rate = images / statistics.median(wall)
            print(f"{cores} cores: {statistics.median(wall):.2f} s, {rate:,.0f} images per second")
        print(f"speed-up: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        for count in args.counts:
            images, seconds, cpu, memory = run(args.cores, count, args.size, source)
            print(f"{images:,} images: {seconds:.1f} s, {cpu:.1f} CPU s, {memory:.0f} MB")


if __name__ == "__main__":
    main()
