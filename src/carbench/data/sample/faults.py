"""Plans which files of the sample are copies, leaks, broken or unusual, before any is drawn.

The plan depends only on the seed and the number of images per class, so that a test can compare the
results of an audit with the ground truth without drawing anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from carbench.data.sample.body_styles import CLASSES
from carbench.data.sample.rng import PortableRng

MIN_IMAGES_PER_CLASS = 10  # with fewer there is no room for one of each fault

# Percentage of the published test images that are also in train, in the order of CLASSES: as uneven
# as in published data sets. About a quarter in total.
LEAK_PERCENT = (60, 44, 26, 16, 4, 0)
TEST_PERCENT = 20
_TRAIN_COPIES_PERCENT = 4  # exact copies; the same number of near copies
_TEST_COPIES_PERCENT = 2
_IMAGES_PER_FAULT = 125  # one more file of each kind per this many images of a class
_CONFLICTING_CLASSES = ((1, 2), (0, 5), (3, 4), (2, 3), (0, 1))

TRANSFORMS = ("resized", "recompressed", "cropped", "mirrored", "recoloured")
FAULT_KINDS = ("truncated", "empty", "text", "png", "palette", "greyscale", "rotated")


@dataclass(frozen=True)
class PlantedCopy:
    """`copy` is made from `original` by `transform` ("exact": identical bytes)."""

    copy: str
    original: str
    transform: str


@dataclass(frozen=True)
class PlantedFaults:
    """The ground truth of a sample.

    Paths are relative to its root, such as "train/Saloon/0007.jpg". No original is itself a copy.
    """

    files: tuple[str, ...]  # every file, sorted
    exact_in_train: tuple[PlantedCopy, ...]
    exact_in_test: tuple[PlantedCopy, ...]
    exact_leaks: tuple[PlantedCopy, ...]  # the copy is in test, its original in train
    near_in_train: tuple[PlantedCopy, ...]
    near_leaks: tuple[PlantedCopy, ...]
    label_conflicts: tuple[PlantedCopy, ...]  # identical bytes in train in two classes
    truncated: tuple[str, ...]  # cannot be decoded, like the next two kinds
    empty: tuple[str, ...]
    text: tuple[str, ...]
    png: tuple[str, ...]  # named .jpg; can be decoded, like the next three kinds
    palette: tuple[str, ...]  # a PNG with a palette, named .jpg
    greyscale: tuple[str, ...]
    rotated: tuple[str, ...]  # EXIF orientation 6: stored lying on its side

    @property
    def undecodable(self) -> tuple[str, ...]:
        """Files that no image library can decode."""
        return tuple(sorted(self.truncated + self.empty + self.text))

    @property
    def exact_copies(self) -> tuple[PlantedCopy, ...]:
        """All byte-identical pairs, including label conflicts."""
        return self.exact_in_train + self.exact_in_test + self.exact_leaks + self.label_conflicts

    @property
    def near_copies(self) -> tuple[PlantedCopy, ...]:
        """All near copies."""
        return self.near_in_train + self.near_leaks

    @property
    def leaked(self) -> tuple[str, ...]:
        """Published test files that have a copy in train."""
        return tuple(sorted(c.copy for c in self.exact_leaks + self.near_leaks))

    def leak_shares(self) -> dict[str, float]:
        """Return the fraction of the published test files that is leaked, by class."""
        shares: dict[str, float] = {}
        for name in CLASSES:
            inside = [path for path in self.files if path.startswith(f"test/{name}/")]
            leaked = [path for path in self.leaked if path.startswith(f"test/{name}/")]
            shares[name] = len(leaked) / len(inside)
        return shares


def _percent_of(percent: int, count: int) -> int:
    return (percent * count + 50) // 100


class _FreePaths:
    """Paths of a class in one split, taken in random order; those left are plain images."""

    def __init__(self, split: str, style: int, count: int, rng: PortableRng) -> None:
        self.paths = [f"{split}/{CLASSES[style]}/{n:04d}.jpg" for n in range(1, count + 1)]
        self.free = rng.shuffled(self.paths)

    def take(self) -> str:
        return self.free.pop()


def plan_faults(images_per_class: int, seed: int) -> PlantedFaults:
    """Return the faults that :func:`generate_sample` plants.

    Raises:
        ValueError: fewer than 10 images per class.
    """
    if images_per_class < MIN_IMAGES_PER_CLASS:
        raise ValueError(
            f"images_per_class is {images_per_class}; the sample needs at least "
            f"{MIN_IMAGES_PER_CLASS} to have room for one of each fault"
        )
    rng = PortableRng(seed, 0)
    test_count = _percent_of(TEST_PERCENT, images_per_class)
    train = [
        _FreePaths("train", s, images_per_class - test_count, rng) for s in range(len(CLASSES))
    ]
    test = [_FreePaths("test", s, test_count, rng) for s in range(len(CLASSES))]

    odd = _plan_faulty_files(images_per_class, train, test)
    conflicts = []
    for number in range(max(1, images_per_class // _IMAGES_PER_FAULT)):
        first, second = _CONFLICTING_CLASSES[number % len(_CONFLICTING_CLASSES)]
        conflicts.append(PlantedCopy(train[second].take(), train[first].take(), "exact"))

    exact_train: list[PlantedCopy] = []
    exact_test: list[PlantedCopy] = []
    exact_leaks: list[PlantedCopy] = []
    near_train: list[PlantedCopy] = []
    near_leaks: list[PlantedCopy] = []
    transforms = _cycle(TRANSFORMS)
    for style, percent in enumerate(LEAK_PERCENT):
        own, others = train[style], test[style]
        inside = max(1, _percent_of(_TRAIN_COPIES_PERCENT, len(own.paths)))
        copies = [own.take() for _ in range(2 * inside)]
        # From here on own.free are ordinary images. The originals of each kind of copy are drawn
        # independently, so that some images have several copies.
        originals = rng.shuffled(own.free)
        exact_train += [PlantedCopy(copies[k], originals[k], "exact") for k in range(inside)]
        originals = rng.shuffled(own.free)
        near_train += [
            PlantedCopy(copies[inside + k], originals[k], next(transforms)) for k in range(inside)
        ]
        originals = rng.shuffled(own.free)
        leaks = min(_percent_of(percent, test_count), len(originals))
        exact = (leaks + 1 - style % 2) // 2
        exact_leaks += [PlantedCopy(others.take(), originals[k], "exact") for k in range(exact)]
        near_leaks += [
            PlantedCopy(others.take(), originals[k], next(transforms)) for k in range(exact, leaks)
        ]
        within = _percent_of(_TEST_COPIES_PERCENT, test_count)
        if style == len(CLASSES) - 1:
            within = max(1, within)  # the class without leaks has room even in the smallest sample
        copies = [others.take() for _ in range(within)]
        originals = rng.shuffled(others.free)
        exact_test += [PlantedCopy(copies[k], originals[k], "exact") for k in range(within)]

    return PlantedFaults(
        files=tuple(sorted(path for each in (*train, *test) for path in each.paths)),
        exact_in_train=tuple(exact_train),
        exact_in_test=tuple(exact_test),
        exact_leaks=tuple(exact_leaks),
        near_in_train=tuple(near_train),
        near_leaks=tuple(near_leaks),
        label_conflicts=tuple(conflicts),
        truncated=tuple(odd["truncated"]),
        empty=tuple(odd["empty"]),
        text=tuple(odd["text"]),
        png=tuple(odd["png"]),
        palette=tuple(odd["palette"]),
        greyscale=tuple(odd["greyscale"]),
        rotated=tuple(odd["rotated"]),
    )


def _plan_faulty_files(
    images_per_class: int, train: list[_FreePaths], test: list[_FreePaths]
) -> dict[str, list[str]]:
    """Assign the faulty files to classes in turn, most of them in train."""
    odd: dict[str, list[str]] = {kind: [] for kind in FAULT_KINDS}
    each = max(1, images_per_class // _IMAGES_PER_FAULT)
    for number, kind in enumerate(FAULT_KINDS * each):
        in_test = number % 4 == 3 and images_per_class >= _IMAGES_PER_FAULT
        paths = (test if in_test else train)[number % len(CLASSES)]
        odd[kind].append(paths.take())
    return odd


def _cycle(options: tuple[str, ...]) -> Iterator[str]:
    while True:
        yield from options
