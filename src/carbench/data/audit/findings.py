"""Results of the audit as a JSON document for the report."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import PurePosixPath
from typing import Any

from carbench.data.audit.duplicates import ImagePair
from carbench.data.audit.review_table import ReviewedPairs
from carbench.data.audit.verdicts import DIFFERENT, SAME

# Pillow's name of the format, by file extension.
FORMAT_OF_SUFFIX = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".gif": "GIF"}

Rows = list[dict[str, str]]


def link_identical(hashes: list[str]) -> tuple[list[tuple[int, int]], list[int]]:
    """Link byte-identical images.

    Returns:
        Pairs (first, copy) and, for each image, the index of its first copy.
    """
    first: dict[str, int] = {}
    first_of = [first.setdefault(digest, index) for index, digest in enumerate(hashes)]
    links = [(origin, index) for index, origin in enumerate(first_of) if origin != index]
    return links, first_of


def summarize_audit(
    manifest: Rows,
    quarantine: Rows,
    groups: list[int],
    first_of: list[int],
    pairs: list[ImagePair],
    reviewed: ReviewedPairs,
) -> dict[str, Any]:
    """Return the findings.

    Args:
        manifest: fetch's rows.
        quarantine: fetch's list of rejected files.
        groups: duplicate group of each image; near pairs across groups were cut as chains.
        first_of: index of the first byte-identical copy of each image.
        pairs: near duplicates among the first copies.
        reviewed: manual verdicts on pairs.
    """
    sizes = Counter(groups)
    copies = Counter(first_of)
    return {
        "images": len(manifest),
        "unique": len(copies),
        "groups": len(sizes),
        "exact_duplicates": len(manifest) - len(copies),
        "near_pairs": len(pairs),
        "reviewed": {verdict: len(reviewed.pairs(verdict)) for verdict in (SAME, DIFFERENT)},
        "largest_group": max(sizes.values(), default=0),
        "classes": dict(sorted(Counter(row["class"] for row in manifest).items())),
        "by_class": _by_class(manifest, groups, first_of),
        "published": dict(sorted(Counter(row["published"] or "none" for row in manifest).items())),
        "leak": _leak(manifest, groups, first_of),
        "conflicts": _conflicts(manifest, groups),
        "cut": [
            _pair_record(manifest, pair)
            for pair in pairs
            if groups[pair.first] != groups[pair.second]
        ],
        "misnamed": [
            {"image": row["image"], "format": row["format"], "mode": row["mode"]}
            for row in manifest
            if _expected_format(row["image"]) not in (None, row["format"])
        ],
        "modes": dict(sorted(Counter(row["mode"] for row in manifest).items())),
        "quarantined": [{"file": row["file"], "reason": row["reason"]} for row in quarantine],
        "examples": _examples(manifest, first_of, pairs),
    }


def _expected_format(image: str) -> str | None:
    return FORMAT_OF_SUFFIX.get(PurePosixPath(image).suffix.lower())


def _by_class(manifest: Rows, groups: list[int], first_of: list[int]) -> dict[str, dict[str, int]]:
    """Return the number of images, distinct files and duplicate groups of each class."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(manifest):
        members[row["class"]].append(index)
    return {
        label: {
            "images": len(indices),
            "unique": len({first_of[index] for index in indices}),
            "groups": len({groups[index] for index in indices}),
        }
        for label, indices in sorted(members.items())
    }


def _leak(manifest: Rows, groups: list[int], first_of: list[int]) -> dict[str, Any]:
    """Return how many published test images have a duplicate in train or val, by class."""
    known = [index for index, row in enumerate(manifest) if row["published"] in ("train", "val")]
    known_groups = {groups[index] for index in known}
    known_bytes = {first_of[index] for index in known}
    test = [index for index, row in enumerate(manifest) if row["published"] == "test"]
    by_class: dict[str, Counter[str]] = defaultdict(Counter)
    for index in test:
        counts = by_class[manifest[index]["class"]]
        counts["test_images"] += 1
        counts["exact"] += first_of[index] in known_bytes
        counts["near_or_exact"] += groups[index] in known_groups
    total: Counter[str] = sum(by_class.values(), Counter())
    keys = ("test_images", "exact", "near_or_exact")
    return {
        **{key: total[key] for key in keys},
        "by_class": {
            label: {key: counts[key] for key in keys} for label, counts in sorted(by_class.items())
        },
    }


def _conflicts(manifest: Rows, groups: list[int]) -> list[dict[str, Any]]:
    """Return the groups whose images are in more than one class."""
    members: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(groups):
        members[number].append(index)
    return [
        {
            "group": number,
            "classes": sorted(labels),
            "images": [manifest[index]["image"] for index in indices],
        }
        for number, indices in members.items()
        if len(labels := {manifest[index]["class"] for index in indices}) > 1
    ]


def _examples(manifest: Rows, first_of: list[int], pairs: list[ImagePair]) -> list[dict[str, Any]]:
    """Return example pairs: identical files first, then near duplicates, least similar first."""
    exact = [
        {
            "first": manifest[origin]["image"],
            "second": manifest[index]["image"],
            "kind": "identical bytes",
        }
        for index, origin in enumerate(first_of)
        if origin != index
    ]
    near = [
        _pair_record(manifest, pair)
        for pair in sorted(pairs, key=lambda pair: (pair.agreement, pair.first, pair.second))
    ]
    return [*_evenly_spaced(exact), *_evenly_spaced(near)]


def _pair_record(manifest: Rows, pair: ImagePair) -> dict[str, Any]:
    return {
        "first": manifest[pair.first]["image"],
        "second": manifest[pair.second]["image"],
        "kind": "mirrored" if pair.mirrored else "near duplicate",
        "agreement": pair.agreement,
    }


def _evenly_spaced(examples: list[dict[str, Any]], most: int = 60) -> list[dict[str, Any]]:
    """Return at most ``most`` examples, evenly spaced in the list."""
    step = max(1, -(-len(examples) // most))
    return examples[::step]
