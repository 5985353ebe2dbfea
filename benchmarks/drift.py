"""Measure how often drift detection raises an alarm, with and without a change.

Run from the root of a finished study: `python benchmarks/drift.py`, or with `--study FOLDER` for
one elsewhere; takes ten minutes for the images of presets/archive.yaml. The clean test images, one
per duplicate group, serve as new images. Windows of them, without repeated images, are compared
with the reference in results/export. Prints a Markdown table: the number of windows with an alarm,
and by which tests; the mean over the windows of each family's largest effect size; and the accuracy
on the images of the row, where their classes are known.

- Unchanged: if the publisher has split the images, test images may show other cars than the
  reference. With "other random split", reference and window are therefore drawn for each window
  from all images that the model was not trained on.
- Blurred: by a Gaussian filter, with the standard deviation as a percentage of the image's side;
  1.5 % is the blur of stage evaluate.
- Night: pixel values times a factor, plus noise that increases as the factor falls: 6 of 255 at
  0.4.
- One class: part of the window is of one class, drawn for each window from those with enough
  images. If there is none, the window is smaller.
- JPEG: the image files are compressed again, at this quality.
- Unseen: part of the window are images from the folder `--unseen`, for example of a class that
  `data.exclude` removed from the study.
"""

from __future__ import annotations

import argparse
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from carbench.data.images.decoding import decode_resized, read_image
from carbench.data.pack.reading import find_rows, read_batches
from carbench.data.split.table import SplitRows, first_of_groups, read_split
from carbench.deploy.bundle.loading import Bundle, load_bundle
from carbench.deploy.bundle.observations import Observations, observe
from carbench.deploy.drift.two_sample_tests import MIN_IMAGES, detect_drift

Pixels = NDArray[np.uint8]
Pair = tuple[Observations, Observations]
BATCH = 64
BLURS = (0.0025, 0.005, 0.01, 0.015, 0.03)
LIGHTS = (0.95, 0.9, 0.8, 0.6, 0.4)
NOISE = 10.0
SHARES = (0.3, 0.5, 0.75, 1.0)
QUALITIES = (80, 60, 40, 20)
UNSEEN_SHARES = (0.1, 0.2, 0.3, 0.5, 1.0)
FAMILIES = ("input", "confidence", "classes", "embedding")


@dataclass(frozen=True)
class Scenario:
    """A kind of window.

    Attributes:
        images: number of images in a window.
        draw: returns a reference and a window.
        accuracy: of the model on the images that windows are drawn from, if known.
    """

    name: str
    images: int
    draw: Callable[[np.random.Generator], Pair]
    accuracy: float | None = None


def blurred(pixels: Pixels, strength: float) -> Pixels:
    """Blur images as a lens out of focus does; ``strength`` is a fraction of the width."""
    lens = ImageFilter.GaussianBlur(strength * pixels.shape[1])
    return np.stack([np.asarray(Image.fromarray(each).filter(lens)) for each in pixels])


def night(pixels: Pixels, light: float) -> Pixels:
    """Darken images by the factor ``light``, and add the noise that comes with it."""
    noise = np.random.default_rng(0).normal(0, NOISE * (1 - light), pixels.shape)
    return (light * pixels + noise).round().clip(0, 255).astype(np.uint8)


def taken(seen: Observations, rows: NDArray[np.int64]) -> Observations:
    """Return the observations of some of the images."""
    statistics = {name: column[rows] for name, column in seen.statistics.items()}
    return Observations(
        statistics, seen.predicted[rows], seen.confidence[rows], seen.embedding[rows]
    )


def joined(first: Observations, second: Observations) -> Observations:
    """Concatenate two sets of observations."""
    return Observations(
        {
            name: np.concatenate([column, second.statistics[name]])
            for name, column in first.statistics.items()
        },
        np.concatenate([first.predicted, second.predicted]),
        np.concatenate([first.confidence, second.confidence]),
        np.concatenate([first.embedding, second.embedding]),
    )


def held_out(study: Path, seed: int) -> SplitRows:
    """Return the clean test images, the first of each duplicate group."""
    rows = read_split(study / "results/split/split.csv", seed).of_split("test")
    clean = rows.select(np.flatnonzero(~rows.leaked))
    return clean.select(first_of_groups(clean.groups))


def read_folder(folder: Path, bundle: Bundle) -> Iterator[Pixels]:
    """Yield all images in a folder in batches, preprocessed as in the service."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for start in range(0, len(files), BATCH):
        shown = [
            decode_resized(file.read_bytes(), bundle.model.size, bundle.model.fit)[0]
            for file in files[start : start + BATCH]
        ]
        yield np.stack([np.asarray(each) for each in shown])


def compressed(study: Path, images: list[str], quality: int, bundle: Bundle) -> Iterator[Pixels]:
    """Yield images in batches, after their files were compressed as JPEG again."""
    for start in range(0, len(images), BATCH):
        shown = []
        for image in images[start : start + BATCH]:
            file = io.BytesIO()
            read_image(study / "results/data/images" / image).save(file, "JPEG", quality=quality)
            shown.append(decode_resized(file.getvalue(), bundle.model.size, bundle.model.fit)[0])
        yield np.stack([np.asarray(each) for each in shown])


def scenarios(study: Path, bundle: Bundle, size: int, unseen: Path | None) -> Iterator[Scenario]:
    """Yield the scenarios to tabulate; windows have at most ``size`` images."""
    reference = bundle.reference
    new = held_out(study, bundle.model.metadata.seed)
    pack = study / "results/pack"
    pixels = list(read_batches(pack, find_rows(pack, new.images), BATCH))
    plain = observe(bundle.classifier, pixels)
    labels = np.array(new.classes)[new.labels]
    names = np.array(bundle.model.classes)

    def right(seen: Observations) -> float:
        return float((names[seen.predicted] == labels).mean())

    def from_all(seen: Observations, rng: np.random.Generator) -> Pair:
        return reference, taken(seen, rng.choice(len(seen), size, replace=False))

    def anew(rng: np.random.Generator) -> Pair:
        every = joined(reference, plain)
        order = rng.permutation(len(every))
        return taken(every, order[size:]), taken(every, order[:size])

    def of_one(names: list[str], one: int, others: int, rng: np.random.Generator) -> Pair:
        inside = labels == rng.choice(names)
        rows = [
            rng.choice(np.flatnonzero(inside), one, replace=False),
            rng.choice(np.flatnonzero(~inside), others, replace=False),
        ]
        return reference, taken(plain, np.concatenate(rows))

    yield Scenario("unchanged", size, partial(from_all, plain), right(plain))
    yield Scenario("unchanged, other random split", size, anew)
    for strength in BLURS:
        seen = observe(bundle.classifier, (blurred(batch, strength) for batch in pixels))
        name = f"blurred by {100 * strength:g} %"
        yield Scenario(name, size, partial(from_all, seen), right(seen))
    for quality in QUALITIES:
        files = compressed(study, new.images.tolist(), quality, bundle)
        seen = observe(bundle.classifier, files)
        yield Scenario(f"JPEG quality {quality}", size, partial(from_all, seen), right(seen))
    for light in LIGHTS:
        seen = observe(bundle.classifier, (night(batch, light) for batch in pixels))
        name = f"night, {light:g} of the values"
        yield Scenario(name, size, partial(from_all, seen), right(seen))
    available = Counter(labels.tolist())
    for share in SHARES:
        whole = min(size, int(max(available.values()) / share))
        one = int(share * whole)
        enough = [name for name, count in available.items() if count >= one]
        yield Scenario(
            f"{100 * share:.0f} % of one class of {len(enough)}",
            whole,
            partial(of_one, enough, one, whole - one),
        )
    if unseen is None:
        return
    others = observe(bundle.classifier, read_folder(unseen, bundle))

    def with_unseen(strangers: int, rng: np.random.Generator) -> Pair:
        new = taken(others, rng.choice(len(others), strangers, replace=False))
        old = taken(plain, rng.choice(len(plain), size - strangers, replace=False))
        return reference, joined(old, new)

    for share in UNSEEN_SHARES:
        draw = partial(with_unseen, int(share * size))
        yield Scenario(f"{100 * share:.0f} % unseen", size, draw)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=Path(), help="folder of a finished study")
    parser.add_argument("--unseen", type=Path, help="folder of images of something else")
    parser.add_argument("--images", type=int, default=100, help="images per window")
    parser.add_argument("--windows", type=int, default=100, help="windows per scenario")
    parser.add_argument("--alpha", type=float, default=0.01)
    parser.add_argument("--min-effect", type=float, default=0.0)
    args = parser.parse_args()
    if args.images < MIN_IMAGES:
        parser.error(f"--images must be at least {MIN_IMAGES}")
    bundle = load_bundle(args.study / "results/export")
    families = " | ".join(FAMILIES)
    effects = " | ".join(f"{family} effect" for family in FAMILIES)
    head = f"| new images | per window | alarms in {args.windows} | different | {families}"
    print(f"{head} | {effects} | accuracy |")
    print("|---|--:|--:|--:|" + "--:|" * (2 * len(FAMILIES) + 1))
    for scenario in scenarios(args.study, bundle, args.images, args.unseen):
        rng = np.random.default_rng(0)
        alarms = different = 0
        by_family: Counter[str] = Counter()
        effects_of: dict[str, list[float]] = {family: [] for family in FAMILIES}
        for number in range(args.windows):
            reference, window = scenario.draw(rng)
            drift = detect_drift(
                reference, window, bundle.model.classes, args.alpha, number, args.min_effect
            )
            alarms += drift.alarm
            different += drift.different
            by_family.update({test.family for test in drift.tests if test.different})
            for family in FAMILIES:
                found = [test.effect for test in drift.tests if test.family == family]
                effects_of[family].append(max(found))
        cells = [scenario.name, str(scenario.images), f"**{alarms}**", str(different)]
        cells += [str(by_family[family]) for family in FAMILIES]
        cells += [f"{np.mean(effects_of[family]):.2f}" for family in FAMILIES]
        cells.append("" if scenario.accuracy is None else f"{100 * scenario.accuracy:.1f} %")
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
