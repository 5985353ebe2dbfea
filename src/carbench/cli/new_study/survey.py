"""Surveys a set of images: classes and splits from paths, sizes from the headers of a sample."""

from __future__ import annotations

import statistics
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from carbench.core.errors import CarbenchError
from carbench.data.images.decoding import open_without_metadata
from carbench.data.sources.listing import Listing, SourceFile, UnreadableFileError
from carbench.data.sources.selection import select_files
from carbench.params.data import DataParams

# Maximum number of files in the sample, which is spread over all classes.
MOST_MEASURED = 300


@dataclass(frozen=True)
class Survey:
    """Result of a survey.

    Args:
        counts: files by class and published part (``train``, ``val``, ``test`` or empty).
        measured: number of files whose headers were read.
        unreadable: number of these that cannot be opened as images.
        shorter_side: median shorter side of the others, in pixels.
    """

    counts: dict[tuple[str, str], int]
    measured: int
    unreadable: int
    shorter_side: int

    @property
    def images(self) -> int:
        """The number of files."""
        return sum(self.counts.values())

    @property
    def classes(self) -> dict[str, int]:
        """Number of files by class, sorted by name."""
        return self._total(0)

    @property
    def parts(self) -> dict[str, int]:
        """Number of files by published part; the name is empty for images without parts."""
        return self._total(1)

    def part(self, name: str) -> dict[str, int]:
        """Return the number of files by class in one published part; 0 for missing classes."""
        return {label: self.counts.get((label, name), 0) for label in self.classes}

    def _total(self, index: int) -> dict[str, int]:
        total: Counter[str] = Counter()
        for key, count in sorted(self.counts.items()):
            total[key[index]] += count
        return dict(total)


def survey(listing: Listing, params: DataParams, origin: str) -> Survey:
    """Survey a source without decoding its images.

    Args:
        listing: the files of the source.
        params: the `data:` section.
        origin: name of the source in error messages.

    Raises:
        CarbenchError: see :func:`carbench.data.sources.selection.select_files`; also if a class has
            no file, or if no sampled file can be opened as an image.
    """
    selection = select_files(listing, params, origin)
    counts = Counter((place.label, place.published) for _, place in selection.chosen)
    empty = sorted(
        {(place.published, place.label) for place in selection.folders} - _places(counts)
    )
    if empty:
        raise CarbenchError(
            origin,
            found=f"no image in {', '.join('/'.join(filter(None, place)) for place in empty[:3])}",
            expected="images in each class folder",
            fix="add images, or remove that folder",
        )
    chosen = [file for file, _ in selection.chosen]
    number = min(len(chosen), MOST_MEASURED)
    sampled = [chosen[index * len(chosen) // number] for index in range(number)]
    sides = [side for file in sampled if (side := _shorter_side(file))]
    if not sides:
        raise CarbenchError(
            origin,
            found=f"{len(sampled)} files that cannot be opened as images",
            expected="JPEG, PNG, WebP, BMP, GIF or TIFF",
            fix="convert them, or download them again",
        )
    unreadable = len(sampled) - len(sides)
    return Survey(dict(counts), len(sampled), unreadable, int(statistics.median(sides)))


def _places(counts: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    return {(published, label) for label, published in counts}


def _shorter_side(file: SourceFile) -> int | None:
    """Return the shorter side in pixels from the file's header; None if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_without_metadata(file.read()) as image:
                return min(image.size)
    except UnreadableFileError:
        return None
    except Exception:  # Pillow's parsers raise many kinds of exceptions for damaged files
        return None
