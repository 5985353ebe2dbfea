"""The faults: which files of the sample are copies, leaks, broken or odd, decided before drawing.

All of it follows from two numbers, the seed and the number of images per class, so that a test
can hold an audit against the truth without drawing anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from carbench.data.sample.rng import Dice
from carbench.data.sample.styles import CLASSES

FEWEST = 10  # images per class; with fewer there is no room for one of each fault

# Share of each class's published test images that also lie in train, percent, in the order of
# CLASSES: as uneven as in the sets people publish. About a quarter in all.
LEAK_PERCENT = (60, 44, 26, 16, 4, 0)
TEST_PERCENT = 20
_TRAIN_COPIES_PERCENT = 4  # exact ones; as many near ones
_TEST_COPIES_PERCENT = 2
_FILES_PER_ODDITY = 125  # images per class for each further file of every odd kind
_CONFLICTING_CLASSES = ((1, 2), (0, 5), (3, 4), (2, 3), (0, 1))

TRANSFORMS = ("resized", "recompressed", "cropped", "mirrored", "recoloured")
ODD_KINDS = ("truncated", "empty", "text", "png", "palette", "greyscale", "rotated")


@dataclass(frozen=True)
class Copy:
    """`copy` was made from `original` by `transform` ("exact": the same bytes)."""

    copy: str
    original: str
    transform: str


@dataclass(frozen=True)
class Planted:
    """The truth about a drawn sample; paths are relative to its root, such as
    "train/Saloon/0007.jpg". Every original is itself a plain drawn image."""

    files: tuple[str, ...]  # every file, sorted
    exact_in_train: tuple[Copy, ...]
    exact_in_test: tuple[Copy, ...]
    exact_leaks: tuple[Copy, ...]  # the copy lies in test, its original in train
    near_in_train: tuple[Copy, ...]
    near_leaks: tuple[Copy, ...]
    label_conflicts: tuple[Copy, ...]  # the same bytes in train under two classes
    truncated: tuple[str, ...]  # cannot be decoded, and the next two kinds
    empty: tuple[str, ...]
    text: tuple[str, ...]
    png: tuple[str, ...]  # named .jpg; can be decoded, and the next three kinds
    palette: tuple[str, ...]  # a PNG with a palette, named .jpg
    greyscale: tuple[str, ...]
    rotated: tuple[str, ...]  # EXIF orientation 6: stored lying on its side

    @property
    def undecodable(self) -> tuple[str, ...]:
        """Files that no image library should accept."""
        return tuple(sorted(self.truncated + self.empty + self.text))

    @property
    def exact_copies(self) -> tuple[Copy, ...]:
        """Every byte-same pair, label conflicts included."""
        return self.exact_in_train + self.exact_in_test + self.exact_leaks + self.label_conflicts

    @property
    def near_copies(self) -> tuple[Copy, ...]:
        """Every changed copy."""
        return self.near_in_train + self.near_leaks

    @property
    def leaked(self) -> tuple[str, ...]:
        """Published test files with a copy in train."""
        return tuple(sorted(c.copy for c in self.exact_leaks + self.near_leaks))

    def leak_shares(self) -> dict[str, float]:
        """Share of each class's published test files that is leaked."""
        shares: dict[str, float] = {}
        for name in CLASSES:
            inside = [path for path in self.files if path.startswith(f"test/{name}/")]
            leaked = [path for path in self.leaked if path.startswith(f"test/{name}/")]
            shares[name] = len(leaked) / len(inside)
        return shares


def _rounded_percent(percent: int, count: int) -> int:
    return (percent * count + 50) // 100


class _Slots:
    """A class's files of one split, handed out in random order; what is left is plain drawn."""

    def __init__(self, split: str, style: int, count: int, rng: Dice) -> None:
        self.paths = [f"{split}/{CLASSES[style]}/{n:04d}.jpg" for n in range(1, count + 1)]
        self.free = rng.shuffled(self.paths)

    def take(self) -> str:
        return self.free.pop()


def plan(images_per_class: int, seed: int) -> Planted:
    """What `draw_sample` plants, without drawing it.

    Raises ValueError with fewer than 10 images per class.
    """
    if images_per_class < FEWEST:
        raise ValueError(
            f"images_per_class is {images_per_class}; the sample needs at least {FEWEST} to have "
            "room for one of each fault"
        )
    rng = Dice(seed, 0)
    test_count = _rounded_percent(TEST_PERCENT, images_per_class)
    train = [_Slots("train", s, images_per_class - test_count, rng) for s in range(len(CLASSES))]
    test = [_Slots("test", s, test_count, rng) for s in range(len(CLASSES))]

    odd = _plan_odd_files(images_per_class, train, test)
    conflicts = []
    for number in range(max(1, images_per_class // _FILES_PER_ODDITY)):
        first, second = _CONFLICTING_CLASSES[number % len(_CONFLICTING_CLASSES)]
        conflicts.append(Copy(train[second].take(), train[first].take(), "exact"))

    exact_train: list[Copy] = []
    exact_test: list[Copy] = []
    exact_leaks: list[Copy] = []
    near_train: list[Copy] = []
    near_leaks: list[Copy] = []
    transforms = _endless(TRANSFORMS)
    for style, percent in enumerate(LEAK_PERCENT):
        own, others = train[style], test[style]
        inside = max(1, _rounded_percent(_TRAIN_COPIES_PERCENT, len(own.paths)))
        copies = [own.take() for _ in range(2 * inside)]
        # From here on own.free are plain images. Each kind of copy draws its originals afresh,
        # so that some images have several copies.
        originals = rng.shuffled(own.free)
        exact_train += [Copy(copies[k], originals[k], "exact") for k in range(inside)]
        originals = rng.shuffled(own.free)
        near_train += [
            Copy(copies[inside + k], originals[k], next(transforms)) for k in range(inside)
        ]
        originals = rng.shuffled(own.free)
        leaks = min(_rounded_percent(percent, test_count), len(originals))
        exact = (leaks + 1 - style % 2) // 2
        exact_leaks += [Copy(others.take(), originals[k], "exact") for k in range(exact)]
        near_leaks += [
            Copy(others.take(), originals[k], next(transforms)) for k in range(exact, leaks)
        ]
        within = _rounded_percent(_TEST_COPIES_PERCENT, test_count)
        if style == len(CLASSES) - 1:
            within = max(1, within)  # the class without leaks has room even in the smallest set
        copies = [others.take() for _ in range(within)]
        originals = rng.shuffled(others.free)
        exact_test += [Copy(copies[k], originals[k], "exact") for k in range(within)]

    return Planted(
        files=tuple(sorted(path for slots in (*train, *test) for path in slots.paths)),
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


def _plan_odd_files(
    images_per_class: int, train: list[_Slots], test: list[_Slots]
) -> dict[str, list[str]]:
    """One class after the other, mostly in train."""
    odd: dict[str, list[str]] = {kind: [] for kind in ODD_KINDS}
    each = max(1, images_per_class // _FILES_PER_ODDITY)
    for number, kind in enumerate(ODD_KINDS * each):
        in_test = number % 4 == 3 and images_per_class >= _FILES_PER_ODDITY
        slots = (test if in_test else train)[number % len(CLASSES)]
        odd[kind].append(slots.take())
    return odd


def _endless(options: tuple[str, ...]) -> Iterator[str]:
    while True:
        yield from options
