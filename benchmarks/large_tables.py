"""Measure what a large data set costs: the start of a training run, stage split, the audit, hashes.

Run from the repository's root: `python benchmarks/large_tables.py`. Generates the tables that the
stages write for a number of images (`--images`) of 196 classes, and measures each part (`--parts`)
in a fresh process, without the time and memory of its imports:

- `start`: what tune, train, subset and evaluate do before their first batch: read split.csv and the
  index of the pack, and open the pack;
- `split`: stage split without writing its files, with four candidate pairs per image;
- `search`: the audit's search for the nearest neighbours of each image, without decoding, on random
  thumbnails (`--search`: how many); the time grows with the square of the number of images;
- `hashes`: the hash of a folder of small files, whose own hashes are cached (`--files`: how many),
  which stages that read the images compute twice.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from carbench.core.columns import texts, write_columns  # noqa: E402

CLASSES = 196  # at most; each has at least ten images
PIXELS = 2  # per side of an image of the pack: the memory of pixels is not that of the tables
NEIGHBOURS = 8  # as in params.yaml
CANDIDATES = 4  # pairs per image in candidates.csv
# Offsets of cached hashes: files that changed within the last second are not cached.
SETTLED_SECONDS = 1.5


def write_tables(folder: Path, count: int) -> None:
    """Write groups.csv, candidates.csv, split.csv and a pack for ``count`` images."""
    rng = np.random.default_rng(0)
    labels = np.sort(np.arange(count) % min(CLASSES, count // 10))
    classes = texts([f"Acura Integra Type R {1900 + number}" for number in range(CLASSES)])
    names = classes[labels].tolist()
    images = texts([f"train/{name}/{number:07d}.jpg" for number, name in enumerate(names)])
    numbers = np.arange(count)
    groups = numbers - (rng.random(count) < 0.2) * (numbers > 0)
    parts = texts(["train", "val", "test", "excluded"])
    columns = {"image": images, "class": classes[labels]}
    write_columns(
        folder / "groups.csv",
        columns | {"published": texts([""] * count), "group": groups, "exact": numbers},
    )
    splits = parts[rng.choice(4, count, p=[0.69, 0.1, 0.2, 0.01])]
    leaked = np.zeros(count, int)
    write_columns(
        folder / "split.csv", columns | {"group": groups, "split": splits, "leaked": leaked}
    )
    first = np.repeat(numbers[:-CANDIDATES], CANDIDATES)
    second = first + np.tile(np.arange(1, CANDIDATES + 1), count - CANDIDATES)
    write_columns(
        folder / "candidates.csv",
        {
            "first": images[first],
            "second": images[second],
            "agreement": rng.random(len(first)).round(4),
            "mirrored": rng.integers(0, 2, len(first)),
            "kind": texts(["other"] * len(first)),
            "verdict": texts([""] * len(first)),
        },
    )
    sizes = {"width": rng.integers(200, 800, count), "height": rng.integers(200, 800, count)}
    write_columns(folder / "index.csv", {"row": numbers, "image": images} | sizes)
    shape = (count, PIXELS, PIXELS, 3)
    np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, shape).flush()


def write_files(folder: Path, count: int) -> None:
    """Write small files in a folder for each class, and the cache of their hashes."""
    from carbench.engines.hashing import HashCache

    for number in range(count):
        path = folder / f"images/class-{number % CLASSES}/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    time.sleep(SETTLED_SECONDS)
    hashes = HashCache(folder)
    hashes.content("images")
    hashes.save()


def prepare_start(folder: Path, count: int) -> Callable[[], object]:
    """Return what a training run does before its first batch."""
    import torch

    from carbench.training.run import load_data

    def start() -> object:
        data = load_data(folder, folder / "split.csv", 0, torch.device("cpu"))
        return next(data.train.images.batches([torch.arange(min(32, len(data.train.images)))]))

    return start


def prepare_split(folder: Path, count: int) -> Callable[[], object]:
    """Return what stage split computes."""
    from carbench.data.split.assignment import assign_images, read_groups
    from carbench.data.split.undetected_duplicates import closest_pairs, read_candidates
    from carbench.params.presets import read_preset
    from carbench.params.split import SplitParams

    sample = read_preset(ROOT / "presets/sample.yaml")["split"]
    params = SplitParams.model_validate(sample | {"method": "grouped"})

    def split() -> object:
        images = read_groups(folder / "groups.csv")
        candidates = read_candidates(folder / "candidates.csv")
        return closest_pairs(images, assign_images(images, params), candidates, params.seed)

    return split


def prepare_search(folder: Path, count: int) -> Callable[[], object]:
    """Return the audit's search for nearest neighbours."""
    from carbench.data.audit.neighbours import nearest_pairs
    from carbench.data.audit.views import THUMBNAIL, stack_views

    rng = np.random.default_rng(0)
    side = THUMBNAIL // 6
    coarse = (rng.integers(0, 256, (6, 6), np.uint8) for _ in range(count))
    views = stack_views([image.repeat(side, 0).repeat(side, 1)] for image in coarse)
    return lambda: nearest_pairs(views, NEIGHBOURS, True)


def prepare_hashes(folder: Path, count: int) -> Callable[[], object]:
    """Return the hash of the folder of images, from the cached hashes of its files."""
    from carbench.engines.hashing import HashCache

    return lambda: HashCache(folder).content("images")


PARTS = {
    "start": prepare_start,
    "split": prepare_split,
    "search": prepare_search,
    "hashes": prepare_hashes,
}


def memory_mb(name: str) -> float:
    """Return ``VmRSS``, the memory of this process, or ``VmHWM``, its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1.024e-3


def measure(part: str, folder: Path, count: int) -> None:
    """Measure a part in this process; print CPU seconds, wall seconds and MB."""
    work = PARTS[part](folder, count)
    # Restart the peak: it is that of the imports. That of getrusage would be the parent's, too.
    Path("/proc/self/clear_refs").write_text("5")
    before, cpu, wall = memory_mb("VmRSS"), time.process_time(), time.perf_counter()
    work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(cpu, wall, memory_mb("VmHWM") - before)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    add("--images", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    add("--search", type=int, nargs="+", default=[2000, 4000, 8000, 16_000])
    add("--files", type=int, nargs="+", default=[10_000, 100_000])
    add("--measure", nargs=2, metavar=("FOLDER", "COUNT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.parts[0], Path(args.measure[0]), int(args.measure[1]))
        return
    counts = {"start": args.images, "split": args.images}
    counts |= {"search": args.search, "hashes": args.files}
    print("| part | images | CPU s | wall s | memory, MB |\n|---|---|---|---|---|")
    for count in sorted({count for part in args.parts for count in counts[part]}):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            if count in args.images and {"start", "split"} & set(args.parts):
                write_tables(folder, count)
            if count in args.files and "hashes" in args.parts:
                (folder / ".carbench").mkdir()
                write_files(folder, count)
            for part in (part for part in args.parts if count in counts[part]):
                command = [
                    sys.executable,
                    __file__,
                    "--parts",
                    part,
                    "--measure",
                    place,
                    str(count),
                ]
                done = subprocess.run(
                    command,
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
                )
                cpu, wall, memory = map(float, done.stdout.split())
                print(f"| {part} | {count:,} | {cpu:.2f} | {wall:.2f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
