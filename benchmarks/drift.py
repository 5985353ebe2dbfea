"""How often drift detection raises an alarm: where nothing has changed, and where something has.

Run by hand in the root of a finished study: `python benchmarks/drift.py`, or with `--study FOLDER`
for one elsewhere; ten minutes for the pictures of presets/archive.yaml. The clean test pictures,
one of each duplicate group, stand for new ones. Windows of them, in which no picture occurs twice,
are held against the reference in results/export. Prints a markdown table: in how many windows there
was an alarm, and by which tests.

- As they are: nothing was done to them. Where the publisher has split the pictures, test pictures
  may show other cars than the reference; dealt anew, reference and window are drawn each time from
  all pictures that the model has not learned from.
- Blurred: by a Gaussian, its standard deviation a part of the picture's side; 1.5 % is the blur of
  stage evaluate.
- Night: values times a factor, and noise that grows as it falls, 6 of 255 at 0.4.
- One class: a part of the window is of one class, drawn anew for each window from those that have
  enough pictures. Where none has, the window is smaller.
- Unseen: a part of the window is of pictures in the folder `--unseen`, such as of a class that
  `data.exclude` kept from the study.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from carbench.deployed.classifier import Classifier
from carbench.deployed.observations import Observations, read_observations
from carbench.drift.testing import FEWEST, compare
from carbench.images import shrink
from carbench.parts import SplitRow, first_of_groups, read_split
from carbench.pictures.pack import read_batches

Pixels = NDArray[np.uint8]
Pair = tuple[Observations, Observations]
BATCH = 64
BLURS = (0.0025, 0.005, 0.01, 0.015, 0.03)
LIGHTS = (0.95, 0.9, 0.8, 0.6, 0.4)
NOISE = 10.0
SHARES = (0.3, 0.5, 0.75, 1.0)
UNSEEN_SHARES = (0.1, 0.2, 0.3, 0.5, 1.0)
FAMILIES = ("input", "confidence", "classes", "embedding")


@dataclass(frozen=True)
class Scenario:
    """A kind of window: its name, how many pictures it has, how reference and window are drawn."""

    name: str
    pictures: int
    draw: Callable[[np.random.Generator], Pair]


def blurred(pixels: Pixels, strength: float) -> Pixels:
    """A lens out of focus."""
    lens = ImageFilter.GaussianBlur(strength * pixels.shape[1])
    return np.stack([np.asarray(Image.fromarray(each).filter(lens)) for each in pixels])


def night(pixels: Pixels, light: float) -> Pixels:
    """Less light, and the noise that comes with it."""
    noise = np.random.default_rng(0).normal(0, NOISE * (1 - light), pixels.shape)
    return (light * pixels + noise).round().clip(0, 255).astype(np.uint8)


def taken(seen: Observations, rows: NDArray[np.int64]) -> Observations:
    """Some of the pictures."""
    statistics = {name: column[rows] for name, column in seen.statistics.items()}
    return Observations(
        statistics, seen.predicted[rows], seen.confidence[rows], seen.embedding[rows]
    )


def joined(first: Observations, second: Observations) -> Observations:
    """The pictures of both."""
    return Observations(
        {
            name: np.concatenate([column, second.statistics[name]])
            for name, column in first.statistics.items()
        },
        np.concatenate([first.predicted, second.predicted]),
        np.concatenate([first.confidence, second.confidence]),
        np.concatenate([first.embedding, second.embedding]),
    )


def held_out(study: Path, seed: int) -> list[SplitRow]:
    """The clean test pictures, the first of each duplicate group."""
    rows = read_split(study / "results/split/split.csv", seed)
    return first_of_groups([row for row in rows if row.split == "test" and not row.leaked])


def read_folder(folder: Path, classifier: Classifier) -> Iterator[Pixels]:
    """All pictures in a folder, a batch at a time, as the service would show them to the model."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for start in range(0, len(files), BATCH):
        shown = [
            shrink(file.read_bytes(), classifier.model.size, classifier.model.fit)[0]
            for file in files[start : start + BATCH]
        ]
        yield np.stack([np.asarray(picture) for picture in shown])


def scenarios(
    study: Path, classifier: Classifier, size: int, unseen: Path | None
) -> Iterator[Scenario]:
    """Yield what is tabulated; windows have ``size`` pictures, or as many as there are."""
    reference = read_observations(classifier.model.reference)
    new = held_out(study, classifier.model.about["seed"])
    pixels = list(read_batches(study / "results/pack", [row.image for row in new], BATCH))
    plain = classifier.observe(pixels)
    labels = np.array([row.label for row in new])

    def from_all(seen: Observations, dice: np.random.Generator) -> Pair:
        return reference, taken(seen, dice.choice(len(seen), size, replace=False))

    def anew(dice: np.random.Generator) -> Pair:
        every = joined(reference, plain)
        order = dice.permutation(len(every))
        return taken(every, order[size:]), taken(every, order[:size])

    def of_one(names: list[str], one: int, others: int, dice: np.random.Generator) -> Pair:
        inside = labels == dice.choice(names)
        rows = [
            dice.choice(np.flatnonzero(inside), one, replace=False),
            dice.choice(np.flatnonzero(~inside), others, replace=False),
        ]
        return reference, taken(plain, np.concatenate(rows))

    yield Scenario("as they are", size, partial(from_all, plain))
    yield Scenario("as they are, dealt anew", size, anew)
    for strength in BLURS:
        seen = classifier.observe(blurred(batch, strength) for batch in pixels)
        yield Scenario(f"blurred by {100 * strength:g} %", size, partial(from_all, seen))
    for light in LIGHTS:
        seen = classifier.observe(night(batch, light) for batch in pixels)
        yield Scenario(f"night, {light:g} of the values", size, partial(from_all, seen))
    available = Counter(labels.tolist())
    for share in SHARES:
        whole = min(size, int(max(available.values()) / share))
        one = int(share * whole)
        names = [name for name, count in available.items() if count >= one]
        yield Scenario(
            f"{100 * share:.0f} % of one class of {len(names)}",
            whole,
            partial(of_one, names, one, whole - one),
        )
    if unseen is None:
        return
    others = classifier.observe(read_folder(unseen, classifier))

    def with_unseen(strangers: int, dice: np.random.Generator) -> Pair:
        new = taken(others, dice.choice(len(others), strangers, replace=False))
        old = taken(plain, dice.choice(len(plain), size - strangers, replace=False))
        return reference, joined(old, new)

    for share in UNSEEN_SHARES:
        draw = partial(with_unseen, int(share * size))
        yield Scenario(f"{100 * share:.0f} % unseen", size, draw)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=Path(), help="folder of a finished study")
    parser.add_argument("--unseen", type=Path, help="folder of pictures of something else")
    parser.add_argument("--pictures", type=int, default=100, help="of a window")
    parser.add_argument("--windows", type=int, default=100, help="of each scenario")
    parser.add_argument("--alpha", type=float, default=0.01)
    args = parser.parse_args()
    if args.pictures < FEWEST:
        parser.error(f"windows have at least {FEWEST} pictures")
    classifier = Classifier(args.study / "results/export")
    print(
        f"| new pictures | in a window | alarms in {args.windows} | " + " | ".join(FAMILIES) + " |"
    )
    print("|---|--:|--:|" + "--:|" * len(FAMILIES))
    for scenario in scenarios(args.study, classifier, args.pictures, args.unseen):
        dice = np.random.default_rng(0)
        alarms = 0
        by_family: Counter[str] = Counter()
        for number in range(args.windows):
            reference, window = scenario.draw(dice)
            drift = compare(reference, window, classifier.model.classes, args.alpha, number)
            alarms += drift.alarm
            by_family.update({test.family for test in drift.tests if test.alarm})
        cells = [scenario.name, str(scenario.pictures), f"**{alarms}**"]
        cells += [str(by_family[family]) for family in FAMILIES]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
