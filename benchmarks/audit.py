"""What the audit finds and what it costs: the tables of docs/audit.md.

Run by hand, in the repository's root. `python benchmarks/audit.py found` plants changed copies of
real pictures (the archive that CARBENCH_ARCHIVE names) and of the sample, and prints recall and
precision; `python benchmarks/audit.py scale` prints time and memory for many generated pictures,
and those of faiss where it is installed. The same seed gives the same pictures and tables.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from carbench.audit.duplicates import Looks, Pair, gather, look, look_at, near_pairs
from carbench.audit.grouping import group, unchained
from carbench.images import decode
from carbench.parallel import in_order
from carbench.params.audit import AuditParams
from carbench.params.base import read_section
from carbench.provenance import hardware
from carbench.sample import draw_sample, plan
from carbench.sources.archive import archive_files

ROOT = Path(__file__).parents[1]
ARCHIVE = Path(
    os.environ.get("CARBENCH_ARCHIVE", ROOT / "../shared/data/cars-image-dataset.zip")
).resolve()
DEFAULT = read_section(ROOT / "presets/archive.yaml", "audit", AuditParams)
# Nothing that is found at any setting of the tables is missed at this one.
LOOSEST = DEFAULT.model_copy(update={"max_distance": 16, "min_correlation": 0.85})
BITS = (6, 8, 10, 12, 16)
CORRELATIONS = (0.90, 0.92, 0.94, 0.96)

Transform = Callable[[Image.Image, random.Random], Image.Image]


def compressed(picture: Image.Image, quality: int = 85) -> Image.Image:
    """The picture after a pass through JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def resized(picture: Image.Image, factor: float) -> Image.Image:
    """The picture at another size."""
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.BICUBIC)


def cropped(picture: Image.Image, percent: int, dice: random.Random) -> Image.Image:
    """The picture less so much of its width and of its height, from whichever side."""
    lost = [round(side * percent / 100) for side in picture.size]
    left, top = (dice.randint(0, pixels) for pixels in lost)
    right, bottom = (
        side - pixels + start
        for side, pixels, start in zip(picture.size, lost, (left, top), strict=True)
    )
    return picture.crop((left, top, right, bottom))


def hue_turned(picture: Image.Image, degrees: int) -> Image.Image:
    """The picture with all its hues turned."""
    hue, saturation, value = picture.convert("HSV").split()
    turned = hue.point([(each + degrees * 256 // 360) % 256 for each in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


TRANSFORMS: dict[str, Transform] = {
    "JPEG quality 45": lambda picture, dice: compressed(picture, 45),
    "JPEG quality 30": lambda picture, dice: compressed(picture, 30),
    "resized x 0.5": lambda picture, dice: resized(picture, 0.5),
    "resized x 0.75": lambda picture, dice: resized(picture, 0.75),
    "resized x 1.5": lambda picture, dice: resized(picture, 1.5),
    "mirrored": lambda picture, dice: ImageOps.mirror(picture),
    "brightness x 0.7": lambda picture, dice: ImageEnhance.Brightness(picture).enhance(0.7),
    "brightness x 1.3": lambda picture, dice: ImageEnhance.Brightness(picture).enhance(1.3),
    "contrast x 0.7": lambda picture, dice: ImageEnhance.Contrast(picture).enhance(0.7),
    "contrast x 1.3": lambda picture, dice: ImageEnhance.Contrast(picture).enhance(1.3),
    "saturation x 0.5": lambda picture, dice: ImageEnhance.Color(picture).enhance(0.5),
    "hue + 20 degrees": lambda picture, dice: hue_turned(picture, 20),
    "cropped by 2 %": lambda picture, dice: cropped(picture, 2, dice),
    "cropped by 5 %": lambda picture, dice: cropped(picture, 5, dice),
    "cropped by 10 %": lambda picture, dice: cropped(picture, 10, dice),
    "mirrored, cropped by 5 %": lambda picture, dice: cropped(ImageOps.mirror(picture), 5, dice),
}


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a Markdown table."""
    head = list(head)
    for cells in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(map(str, cells)) + " |")
    print()


def joined(looks: list[Looks]) -> Looks:
    """Several sets of looks as one."""
    return Looks(
        np.concatenate([each.hashes for each in looks]),
        np.concatenate([each.mirrored_hashes for each in looks]),
        np.concatenate([each.thumbnails for each in looks]),
    )


def at(pairs: list[Pair], bits: int, correlation: float) -> list[Pair]:
    """The pairs that are found at a setting."""
    return [p for p in pairs if p.distance <= bits and p.correlation >= correlation]


def found(arguments: argparse.Namespace) -> None:
    """Recall and precision on planted copies, and what the settings say of the real pictures."""
    with archive_files(ARCHIVE, 10) as files:
        contents = [(file.path.parts, file.read()) for file in files]
    first: dict[str, int] = {}
    first_of = [
        first.setdefault(hashlib.sha256(content).hexdigest(), index)
        for index, (_, content) in enumerate(contents)
    ]
    unique = sorted(set(first_of))
    pictures = [contents[index][1] for index in unique]
    real = gather(in_order(lambda content: look(decode(content)[0]), pictures))
    pairs = near_pairs(real, LOOSEST)

    alike = {index for pair in pairs for index in (pair.first, pair.second)}
    singles = [index for index in range(len(unique)) if index not in alike]
    originals = random.Random(arguments.seed).sample(singles, arguments.originals)
    print(
        f"{len(contents):,} real pictures, {len(unique):,} unique, {len(singles):,} of them single "
        f"at the loosest setting; {len(originals)} originals, seed {arguments.seed}\n"
    )

    def changed(name: str, index: int) -> tuple[int, int, np.ndarray]:
        dice = random.Random(f"{arguments.seed} {name} {index}")
        copy = TRANSFORMS[name](decode(pictures[index])[0], dice)
        return look(compressed(copy) if "JPEG" not in name else copy)

    # The copies of a transform are compared with all real pictures. A pair of a copy and its
    # original is true, of a copy and any other real picture false.
    hits: dict[str, list[Pair]] = {}
    strays: dict[str, list[Pair]] = {}
    count = len(unique)
    for name in TRANSFORMS:
        copies = gather(in_order(lambda index, name=name: changed(name, index), originals))
        between = [
            pair
            for pair in near_pairs(joined([real, copies]), LOOSEST)
            if pair.first < count <= pair.second
        ]
        own = [originals[pair.second - count] == pair.first for pair in between]
        hits[name] = [pair for pair, true in zip(between, own, strict=True) if true]
        strays[name] = [pair for pair, true in zip(between, own, strict=True) if not true]

    def rates(names: Iterable[str], bits: int, correlation: float) -> tuple[str, str]:
        names = list(names)
        right = sum(len(at(hits[name], bits, correlation)) for name in names)
        wrong = sum(len(at(strays[name], bits, correlation)) for name in names)
        precision = f"{right / (right + wrong):.3f}" if right + wrong else "-"
        return f"{right / (len(names) * len(originals)):.3f}", precision

    bits, correlation = DEFAULT.max_distance, DEFAULT.min_correlation
    table(
        ["planted copy", f"recall at {bits} bits, {correlation}", "precision", "recall at 12 bits"],
        (
            (name, *rates([name], bits, correlation), rates([name], 12, correlation)[0])
            for name in TRANSFORMS
        ),
    )

    misses = sample_misses(arguments.seed)
    rows = []
    for bits in BITS:
        for correlation in CORRELATIONS:
            leaked, mixed, cut = consequences(real, pairs, contents, first_of, bits, correlation)
            crops = (rates([f"cropped by {part} %"], bits, correlation)[0] for part in (2, 5, 10))
            easy = [name for name in TRANSFORMS if "cropped" not in name]
            missed, false = misses(bits, correlation)
            rows.append(
                (
                    bits,
                    f"{correlation:.2f}",
                    rates(easy, bits, correlation)[0],
                    *crops,
                    rates(TRANSFORMS, bits, correlation)[1],
                    f"{missed} / {false}",
                    len(at(pairs, bits, correlation)),
                    leaked,
                    mixed,
                    cut,
                )
            )
    table(
        [
            "bits",
            "correlation",
            "not cropped",
            "crop 2 %",
            "5 %",
            "10 %",
            "precision",
            "sample: missed/false",
            "real: pairs",
            "leaked",
            "mixed groups",
            "cut pairs",
        ],
        rows,
    )


def sample_misses(seed: int) -> Callable[[int, float], tuple[int, int]]:
    """Return a function: planted near copies missed, and false pairs, at a setting."""
    planted = plan(250, seed)
    with tempfile.TemporaryDirectory() as folder:
        draw_sample(Path(folder), 250, seed)
        bad = set(planted.undecodable)
        copies = {link.copy for link in planted.exact_copies}
        names = [name for name in planted.files if name not in bad | copies]
        looks = look_at(Path(folder) / name for name in names)
    position = {name: index for index, name in enumerate(names)}
    links = [(position[link.original], position[link.copy]) for link in planted.near_copies]
    truth = group(len(names), links)
    pairs = near_pairs(looks, LOOSEST)

    def misses(bits: int, correlation: float) -> tuple[int, int]:
        kept = [(pair.first, pair.second) for pair in at(pairs, bits, correlation)]
        groups = group(len(names), kept)
        false = sum(truth[first] != truth[second] for first, second in kept)
        return sum(groups[first] != groups[second] for first, second in links), false

    return misses


def consequences(
    real: Looks,
    pairs: list[Pair],
    contents: list[tuple[tuple[str, ...], bytes]],
    first_of: list[int],
    bits: int,
    correlation: float,
) -> tuple[int, int, int]:
    """Published test pictures with a twin in train, groups of several classes, pairs cut."""
    unique = sorted(set(first_of))
    kept = at(pairs, bits, correlation)
    links = [(origin, index) for index, origin in enumerate(first_of)]
    links += [
        (unique[centre], unique[member])
        for centre, member in unchained(real, kept, DEFAULT.min_centre_correlation)
    ]
    groups = group(len(contents), links)
    classes: dict[int, set[str]] = {}
    for number, (parts, _) in zip(groups, contents, strict=True):
        classes.setdefault(number, set()).add(parts[-2])
    part = [parts[-3] for parts, _ in contents]
    known = {number for number, name in zip(groups, part, strict=True) if name != "test"}
    return (
        sum(number in known for number, name in zip(groups, part, strict=True) if name == "test"),
        sum(len(labels) > 1 for labels in classes.values()),
        sum(groups[unique[pair.first]] != groups[unique[pair.second]] for pair in kept),
    )


def scale(arguments: argparse.Namespace) -> None:
    """Time and memory for many generated pictures, one in ten of them a copy of another."""
    print(json.dumps(hardware()))
    dice = np.random.default_rng(arguments.seed)
    count = arguments.pictures
    hashes = dice.integers(0, 2**64, count, np.uint64)
    thumbnails = dice.integers(0, 256, (count, 8, 8), np.uint8).repeat(4, 1).repeat(4, 2)
    copies, sources = np.split(dice.permutation(count)[: count // 10 * 2], 2)
    hashes[copies] = hashes[sources] ^ (1 << dice.integers(0, 64, len(copies), np.uint64))
    thumbnails[copies] = thumbnails[sources]
    looks = Looks(hashes, dice.permutation(hashes), thumbnails)
    rows = []

    started = time.perf_counter()
    pairs = near_pairs(looks, DEFAULT)
    rows.append(("find pairs", f"{time.perf_counter() - started:.1f} s, {len(pairs):,} found"))
    started = time.perf_counter()
    links = list(unchained(looks, pairs, DEFAULT.min_centre_correlation))
    groups = len(set(group(count, links).tolist()))
    rows.append(("group them", f"{time.perf_counter() - started:.1f} s, {groups:,} groups"))

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.jpg" for number in range(arguments.files)]
        for path, blots in zip(paths, thumbnails, strict=False):
            Image.fromarray(blots).convert("RGB").resize((640, 480)).save(path, quality=85)
        started = time.perf_counter()
        look_at(paths)
        each = (time.perf_counter() - started) / len(paths)
    rows.append((f"hash and shrink {len(paths):,} files of 640 x 480", f"{each * 1e3:.2f} ms each"))
    rows.append((f"... extrapolated to {count:,}", f"{each * count:.0f} s"))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    rows.append(("most memory, all of it", f"{memory:.2f} GB"))
    if find_spec("faiss"):
        rows.append(("faiss IndexBinaryFlat.range_search, hashes alone", by_faiss(hashes)))
    table([f"{count:,} generated pictures", "measured"], rows)


def by_faiss(hashes: np.ndarray) -> str:
    """The same search of hashes, not mirrored, by faiss."""
    import faiss

    index = faiss.IndexBinaryFlat(64)
    codes = hashes.view(np.uint8).reshape(-1, 8)
    started = time.perf_counter()
    index.add(codes)
    # faiss finds less than the radius, each pair twice, and every picture itself.
    limits, _, _ = index.range_search(codes, DEFAULT.max_distance + 1)
    pairs = (int(limits[-1]) - len(hashes)) // 2
    return f"{time.perf_counter() - started:.1f} s, {pairs:,} candidates (not mirrored)"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    tables = parser.add_subparsers(required=True)
    planted = tables.add_parser("found", help="recall and precision")
    planted.add_argument("--originals", type=int, default=400, help="real pictures to copy")
    planted.set_defaults(measure=found)
    many = tables.add_parser("scale", help="time and memory")
    many.add_argument("--pictures", type=int, default=100_000)
    many.add_argument("--files", type=int, default=2_000, help="generated files to decode")
    many.set_defaults(measure=scale)
    arguments = parser.parse_args()
    arguments.measure(arguments)


if __name__ == "__main__":
    main()
