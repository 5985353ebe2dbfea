"""Measure recall, false pairs and cost of the audit: the tables of docs/audit.md.

Run from the repository's root, with real images (set CARBENCH_ARCHIVE to the archive):

- `python benchmarks/audit.py peers` plants edited copies of real images (edits.py) and prints how
  many of each kind carbench, imagededup, fastdup and cleanvision find, and their false pairs;
- `python benchmarks/audit.py settings` prints recall and false pairs by `audit.min_agreement` and
  `audit.neighbours`, and what the settings lead to on the real images;
- `python benchmarks/audit.py scale` prints time and memory for many generated images.

The other tools are not dependencies. Install them with `python -m venv /tmp/peers &&
/tmp/peers/bin/pip install imagededup cleanvision`, and fastdup in a second environment; then set
CARBENCH_PEERS to the two Python executables, separated by a colon. A tool that is missing or fails
is printed as not measured, with the reason. The same seed gives the same copies.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from edits import EDITS, compressed, edited
from PIL import Image

from carbench.core.parallel import thread_map
from carbench.core.provenance import hardware
from carbench.data.audit.contact_sheet import SheetImage, draw_sheet, save_sheet
from carbench.data.audit.duplicates import ImagePair, score_pairs
from carbench.data.audit.grouping import connected_groups, links_without_chains
from carbench.data.audit.views import Views, make_thumbnails, read_views, stack_views
from carbench.data.images.decoding import decode
from carbench.data.sample import generate_sample, plan_faults
from carbench.data.sources.archive import list_archive
from carbench.params.audit import AuditParams
from carbench.params.presets import read_preset

ROOT = Path(__file__).parents[1]
ARCHIVE = Path(
    os.environ.get("CARBENCH_ARCHIVE", ROOT / "../shared/data/cars-image-dataset.zip")
).resolve()
CARBENCH = "carbench"
PEERS = (CARBENCH, "imagededup PHash", "imagededup CNN", "fastdup at 0.90", "cleanvision")
DEFAULT = AuditParams.model_validate(read_preset(ROOT / "presets/archive.yaml")["audit"])
# Originals must be unlike every other image even at this setting: a copy that matches a real
# duplicate of its original would count as a false pair.
LOOSEST = DEFAULT.model_copy(update={"neighbours": 40})
UNLIKE = 0.85
AGREEMENTS = (0.90, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98)
NEIGHBOURS = (8, 16)


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a Markdown table."""
    head = list(head)
    for cells in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    print()


@dataclass
class Real:
    """The archive's images: path parts and bytes.

    ``first_of`` is the index of the first image with the same bytes, ``unique`` the indices of all
    first ones.
    """

    paths: list[tuple[str, ...]]
    contents: list[bytes]
    first_of: list[int]
    unique: list[int]
    views: Views
    pairs: Iterable[ImagePair] = ()

    @classmethod
    def read(cls) -> Real:
        """Read the archive and compute the views of its images."""
        with list_archive(ARCHIVE, 10) as listing:
            images = [(file.path.parts, file.read()) for file in listing.files]
        paths, contents = [list(column) for column in zip(*images, strict=True)]
        first: dict[str, int] = {}
        first_of = [
            first.setdefault(hashlib.sha256(content).hexdigest(), index)
            for index, content in enumerate(contents)
        ]
        unique = sorted(set(first_of))
        views = stack_views(
            thread_map(lambda index: make_thumbnails(decode(contents[index])[0]), unique)
        )
        return cls(paths, contents, first_of, unique, views)

    def image(self, number: int) -> Image.Image:
        """Decode one of the unique files."""
        return decode(self.contents[self.unique[number]])[0]

    def originals(self, count: int, seed: int) -> list[int]:
        """Draw unique files that resemble no other image."""
        self.pairs = score_pairs(self.views, LOOSEST)
        alike = {
            index
            for pair in self.pairs
            if pair.agreement >= UNLIKE
            for index in (pair.first, pair.second)
        }
        singles = [index for index in range(len(self.unique)) if index not in alike]
        drawn = random.Random(seed).sample(singles, count)
        print(
            f"{len(self.contents):,} real images, {len(self.unique):,} unique files, "
            f"{len(singles):,} of them unlike all others; {count} originals, seed {seed}\n"
        )
        return drawn


def joined(one: Views, other: Views) -> Views:
    """Concatenate two sets of views."""
    return Views(
        np.concatenate((one.image_of, other.image_of + one.image_of[-1] + 1)),
        np.concatenate((one.thumbnails, other.thumbnails)),
        np.concatenate((one.descriptors, other.descriptors)),
    )


def with_copies(real: Real, originals: Sequence[int], name: str, seed: int) -> Views:
    """Return the views of all real images, followed by those of one kind of copies."""
    copies = thread_map(
        lambda number: make_thumbnails(edited(name, real.image(number), number, seed)), originals
    )
    return joined(real.views, stack_views(copies))


def across(pairs: Iterable[ImagePair], count: int) -> list[ImagePair]:
    """Return the pairs of a real image and a copy; ``count`` is the number of real images."""
    return [pair for pair in pairs if pair.first < count <= pair.second]


def peers(arguments: argparse.Namespace) -> None:
    """Print recall and false pairs of carbench and other tools, by kind of copy."""
    print(json.dumps(hardware()), "\n")
    real = Real.read()
    originals = real.originals(arguments.originals, arguments.seed)
    cells: dict[str, list[str]] = {name: [] for name in EDITS}
    wrong: list[tuple[str, ImagePair]] = []
    notes = []
    for system in arguments.only or PEERS:
        try:
            if system == CARBENCH:
                found, note = by_carbench(real, originals, arguments.seed, wrong)
            else:
                found, note = by_peer(system, real, originals, arguments.seed)
        except RuntimeError as error:
            found, note = dict.fromkeys(EDITS, "not measured"), f"not measured: {error}"
        notes.append(f"{system}: {note}")
        for name, cell in found.items():
            cells[name].append(cell)
    print("Recall in percent / false pairs of a copy and another real image:\n")
    table(["copy", *(arguments.only or PEERS)], ((name, *row) for name, row in cells.items()))
    print(*notes, sep="\n")
    if arguments.sheet and wrong:
        show_wrong(real, originals, wrong, arguments.sheet)


def by_carbench(
    real: Real, originals: Sequence[int], seed: int, wrong: list[tuple[str, ImagePair]]
) -> tuple[dict[str, str], str]:
    """Return recall and false pairs by kind of copy, and the time of the search.

    False pairs are appended to ``wrong``.
    """
    count = len(real.unique)
    cells: dict[str, str] = {}
    seconds = 0.0
    for name in EDITS:
        views = with_copies(real, originals, name, seed)
        started = time.perf_counter()
        found = across(score_pairs(views, DEFAULT), count)
        seconds += time.perf_counter() - started
        found = [pair for pair in found if pair.agreement >= DEFAULT.min_agreement]
        true = {pair.second for pair in found if originals[pair.second - count] == pair.first}
        false = [pair for pair in found if originals[pair.second - count] != pair.first]
        wrong += [(name, pair) for pair in false]
        cells[name] = f"{100 * len(true) / len(originals):.1f} / {len(false)}"
        print(CARBENCH, name, cells[name], file=sys.stderr, flush=True)
    files = len(EDITS) * (count + len(originals))
    return cells, f"{1e3 * seconds / files:.1f} ms per file, without decoding"


def by_peer(
    peer: str, real: Real, originals: Sequence[int], seed: int
) -> tuple[dict[str, str], str]:
    """Return recall and false pairs of another tool by kind of copy, and its version and time."""
    cells: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number, index in enumerate(real.unique):
            (folder / f"r{number}.jpg").write_bytes(real.contents[index])
        for kind, name in enumerate(EDITS):
            for copy, number in enumerate(originals):
                quality = int(name.split()[-1]) if name.startswith("JPEG") else 85
                image = edited(name, real.image(number), number, seed)
                image.save(folder / f"c{kind}-{copy}.jpg", quality=quality)
        result = searched(peer, folder)
    files = len(real.unique) + len(EDITS) * len(originals)
    right: list[set[int]] = [set() for _ in EDITS]
    strays: Counter[int] = Counter()
    for one, other in result["pairs"]:
        if one[0] == "c" and other[0] == "r":
            kind, copy = map(int, one[1:-4].split("-"))
            if originals[copy] == int(other[1:-4]):
                right[kind].add(copy)
            else:
                strays[kind] += 1
    for kind, name in enumerate(EDITS):
        cells[name] = f"{100 * len(right[kind]) / len(originals):.1f} / {strays[kind]}"
    return cells, f"{result['version']}, {1e3 * result['seconds'] / files:.1f} ms per file"


def searched(peer: str, folder: Path) -> dict:
    """Search a folder with another tool.

    Raises:
        RuntimeError: the tool is missing or failed; with the reason.
    """
    package = peer.split()[0]
    pythons = os.environ.get("CARBENCH_PEERS", "").split(":")
    try:
        python = next(each for each in pythons if each and has(each, package))
    except StopIteration:
        raise RuntimeError(f"{package} is not installed in CARBENCH_PEERS; see --help") from None
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "found.json"
        script = ROOT / "benchmarks/peers/duplicates.py"
        done = subprocess.run(
            [python, script, peer, folder, output],
            capture_output=True,
            text=True,
            cwd=place,
            env=alone(),
        )
        if done.returncode or not output.exists():
            raise RuntimeError(
                (done.stderr.strip().splitlines() or ["it failed without a message"])[-1]
            )
        return json.loads(output.read_text())


def has(python: str, package: str) -> bool:
    """Return whether a package is installed for a Python executable."""
    command = [python, "-c", f"import importlib.util as u; assert u.find_spec({package!r})"]
    return not subprocess.run(command, capture_output=True, env=alone()).returncode


def alone() -> dict[str, str]:
    """Return the environment variables without PYTHONPATH, so that peers do not import carbench."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def show_wrong(
    real: Real, originals: Sequence[int], wrong: Sequence[tuple[str, ImagePair]], path: Path
) -> None:
    """Write a contact sheet of carbench's false pairs, to check by eye whether they are false."""
    pairs: dict[tuple[int, int], list[str]] = {}
    for name, pair in wrong:
        key = originals[pair.second - len(real.unique)], pair.first
        pairs.setdefault(key, []).append(f"{name} {pair.agreement:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for numbers, names in pairs.items():
            for number in numbers:
                real.image(number).save(Path(folder) / f"{number}.png")
            rows.append(
                [
                    SheetImage(
                        f"{number}.png", "/".join(real.paths[real.unique[number]][-3:]), "", text
                    )
                    for number, text in zip(numbers, (", ".join(names)[:60], " "), strict=True)
                ]
            )
        save_sheet(draw_sheet(rows, Path(folder)), path)
    print(f"{len(wrong)} false pairs, between {len(pairs)} pairs of originals: {path}")


def settings(arguments: argparse.Namespace) -> None:
    """Print recall and false pairs by setting, and what the settings lead to on the real images."""
    real = Real.read()
    originals = real.originals(arguments.originals, arguments.seed)
    count = len(real.unique)
    hits: dict[int, dict[str, dict[int, float]]] = {}
    strays: dict[int, dict[str, list[float]]] = {}
    for neighbours in NEIGHBOURS:
        params = DEFAULT.model_copy(update={"neighbours": neighbours})
        hits[neighbours], strays[neighbours] = {}, {}
        for name in HARD:
            pairs = across(
                score_pairs(with_copies(real, originals, name, arguments.seed), params), count
            )
            own = [originals[pair.second - count] == pair.first for pair in pairs]
            hits[neighbours][name] = {
                pair.second: pair.agreement for pair, true in zip(pairs, own, strict=True) if true
            }
            strays[neighbours][name] = [
                pair.agreement for pair, true in zip(pairs, own, strict=True) if not true
            ]

    def recall(neighbours: int, name: str, least: float) -> str:
        found = sum(each >= least for each in hits[neighbours][name].values())
        return f"{100 * found / len(originals):.1f}"

    table(
        ["copy", *(f"{least:.2f}" for least in AGREEMENTS)],
        (
            (name, *(recall(DEFAULT.neighbours, name, least) for least in AGREEMENTS))
            for name in HARD
        ),
    )
    table(
        [f"copy, at {DEFAULT.min_agreement}", *(f"{n} neighbours" for n in NEIGHBOURS)],
        ((name, *(recall(n, name, DEFAULT.min_agreement) for n in NEIGHBOURS)) for name in HARD),
    )
    misses = sample_misses(arguments.seed)
    pairs = score_pairs(real.views, DEFAULT)
    rows = []
    for least in AGREEMENTS:
        leaked, mixed, largest, cut = consequences(real, pairs, least)
        missed, false = misses(least)
        wrong = sum(
            each >= least for found in strays[DEFAULT.neighbours].values() for each in found
        )
        kept = sum(pair.agreement >= least for pair in pairs)
        rows.append(
            (f"{least:.2f}", wrong, f"{missed} / {false}", kept, leaked, mixed, largest, cut)
        )
    table(
        [
            "min_agreement",
            "planted: false pairs",
            "sample: missed / false",
            "real: pairs",
            "leaked",
            "mixed groups",
            "largest group",
            "cut pairs",
        ],
        rows,
    )


HARD = ("cropped by 10 %", "cropped by 20 %", "watermark", "dealer's banner",
        "screenshot in a frame")  # fmt: skip


def sample_misses(seed: int) -> Callable[[float], tuple[int, int]]:
    """Return a function from an agreement to (planted near copies missed, false pairs)."""
    planted = plan_faults(250, seed)
    with tempfile.TemporaryDirectory() as folder:
        generate_sample(Path(folder), 250, seed)
        bad = set(planted.undecodable)
        copies = {link.copy for link in planted.exact_copies}
        names = [name for name in planted.files if name not in bad | copies]
        views = read_views(Path(folder) / name for name in names)
    position = {name: index for index, name in enumerate(names)}
    links = [(position[link.original], position[link.copy]) for link in planted.near_copies]
    truth = connected_groups(len(names), links)
    pairs = score_pairs(views, DEFAULT)

    def misses(least: float) -> tuple[int, int]:
        kept = [(pair.first, pair.second) for pair in pairs if pair.agreement >= least]
        groups = connected_groups(len(names), kept)
        false = sum(truth[first] != truth[second] for first, second in kept)
        return sum(groups[first] != groups[second] for first, second in links), false

    return misses


def consequences(real: Real, pairs: Iterable[ImagePair], least: float) -> tuple[int, int, int, int]:
    """Return the effects of a minimum agreement on the real images.

    Returns:
        The published test images with a duplicate in train, groups with several classes, size of
        the largest group, and near duplicates whose images ended up in different groups.
    """
    kept = [pair for pair in pairs if pair.agreement >= least]
    links = [(origin, index) for index, origin in enumerate(real.first_of)]
    links += [
        (real.unique[centre], real.unique[member])
        for centre, member in links_without_chains(real.views, kept, DEFAULT.min_centre_agreement)
    ]
    groups = connected_groups(len(real.contents), links).tolist()
    classes: dict[int, set[str]] = {}
    for number, parts in zip(groups, real.paths, strict=True):
        classes.setdefault(number, set()).add(parts[-2])
    part = [parts[-3] for parts in real.paths]
    known = {number for number, name in zip(groups, part, strict=True) if name != "test"}
    unlike = [p for p in kept if groups[real.unique[p.first]] != groups[real.unique[p.second]]]
    return (
        sum(number in known for number, name in zip(groups, part, strict=True) if name == "test"),
        sum(len(labels) > 1 for labels in classes.values()),
        max(map(groups.count, set(groups))),
        len(unlike),
    )


def scale(arguments: argparse.Namespace) -> None:
    """Print time and memory for many generated images, one in ten of them a copy of another."""
    print(json.dumps(hardware()))
    rng = np.random.default_rng(arguments.seed)
    count = arguments.images
    rows = []

    def generated() -> Iterable[list[np.ndarray]]:
        blots: list[np.ndarray] = []
        for number in range(count):
            if number % 10 == 9:  # a brighter copy of one of the last nine
                blot = np.clip(blots[rng.integers(9)] * 1.1, 0, 255).astype(np.uint8)
                blots.clear()
            else:
                blot = rng.integers(0, 256, (10, 10), np.uint8)
                blots.append(blot)
            image = Image.fromarray(blot).resize((192, 192), Image.Resampling.BICUBIC)
            yield make_thumbnails(image)

    def timed(work: Callable[[], object]) -> tuple[object, str]:
        wall, cpu = time.perf_counter(), time.process_time()
        done = work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return done, f"{wall:.1f} s, {cpu:.1f} s of CPU time"

    views = stack_views(generated())
    pairs, spent = timed(lambda: score_pairs(views, DEFAULT))
    near = [pair for pair in pairs if pair.agreement >= DEFAULT.min_agreement]
    rows.append((f"find {len(pairs):,} candidates, {len(near):,} of them near duplicates", spent))
    links, spent = timed(
        lambda: list(links_without_chains(views, near, DEFAULT.min_centre_agreement))
    )
    groups = len(set(connected_groups(count, links).tolist()))
    rows.append((f"group them: {groups:,} groups", spent))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.jpg" for number in range(arguments.files)]
        for path, blots in zip(paths, views.thumbnails, strict=False):
            compressed(Image.fromarray(blots).resize((640, 480)).convert("RGB")).save(path)
        _, spent = timed(lambda: read_views(paths))
    rows.append((f"read {len(paths):,} files of 640 x 480", spent))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    rows.append(("peak memory of the whole run", f"{memory:.2f} GB"))
    table([f"{count:,} generated images", "measured"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    tables = parser.add_subparsers(required=True)
    for name, measure, summary in (
        ("peers", peers, "compare carbench with other tools"),
        ("settings", settings, "recall and false pairs by setting"),
    ):
        planted = tables.add_parser(name, help=summary)
        planted.add_argument("--originals", type=int, default=300, help="real images to copy")
        planted.set_defaults(measure=measure)
        if name == "peers":
            planted.add_argument("--only", nargs="*", choices=PEERS, help="run only these tools")
            planted.add_argument("--sheet", type=Path, help="JPEG of carbench's false pairs")
    many = tables.add_parser("scale", help="time and memory")
    many.add_argument("--images", type=int, default=100_000)
    many.add_argument("--files", type=int, default=2_000, help="generated files to decode")
    many.set_defaults(measure=scale)
    arguments = parser.parse_args()
    arguments.measure(arguments)


if __name__ == "__main__":
    main()
