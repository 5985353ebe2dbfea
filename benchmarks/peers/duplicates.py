"""Find duplicate images in a folder with another tool, and write the pairs as JSON.

benchmarks/audit.py runs this in the other tools' environment, so it does not import carbench.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

Pairs = Iterable[tuple[str, str]]


def phash(folder: Path) -> Pairs:
    """Search with imagededup's PHash at its default, 10 bits of 64."""
    from imagededup.methods import PHash

    found = PHash(verbose=False).find_duplicates(image_dir=str(folder))
    return ((name, other) for name, others in found.items() for other in others)


def cnn(folder: Path) -> Pairs:
    """Search with imagededup's MobileNetV3 at its default, cosine 0.9; downloads its weights."""
    from imagededup.methods import CNN

    found = CNN(verbose=False).find_duplicates(image_dir=str(folder))
    return ((name, other) for name, others in found.items() for other in others)


def fastdup(folder: Path) -> Pairs:
    """Search with fastdup at 0.90 and 40 neighbours.

    By default it returns the two nearest images of each, which could both be other copies.
    """
    import fastdup

    with tempfile.TemporaryDirectory() as work:
        job = fastdup.create(work_dir=work, input_dir=str(folder))
        job.run(
            threshold=0.9, ccthreshold=0.9, nearest_neighbors_k=40, overwrite=True, verbose=False
        )
        table = job.similarity()
        for row in table.to_dict("records"):
            if row["distance"] >= 0.9:
                yield Path(row["filename_from"]).name, Path(row["filename_to"]).name


def cleanvision(folder: Path) -> Pairs:
    """Search with cleanvision for exact and near duplicates (equal perceptual hashes)."""
    from cleanvision import Imagelab

    lab = Imagelab(data_path=str(folder))
    lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=1, verbose=False)
    for kind in ("exact_duplicates", "near_duplicates"):
        for group in lab.info[kind]["sets"]:
            yield from itertools.combinations([Path(path).name for path in group], 2)


PEERS: dict[str, tuple[str, Callable[[Path], Pairs]]] = {
    "imagededup PHash": ("imagededup", phash),
    "imagededup CNN": ("imagededup", cnn),
    "fastdup at 0.90": ("fastdup", fastdup),
    "cleanvision": ("cleanvision", cleanvision),
}


def main() -> None:
    """Search one folder with one tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    package, search = PEERS[arguments.peer]
    started = time.perf_counter()
    pairs = sorted({tuple(sorted(pair)) for pair in search(arguments.folder)})
    seconds = time.perf_counter() - started
    found = {"pairs": pairs, "seconds": seconds, "version": version(package)}
    arguments.output.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
