"""Tables of the timings of stage cost, separate from those of the exact costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from carbench.core.tables import write_table
from carbench.cost.file_names import MEASURED, ROUNDS, RUNTIMES
from carbench.cost.median_intervals import median_interval
from carbench.models.timing import Configuration, TimedRun


def write_latencies(folder: Path, turns: list[TimedRun], confidence: float) -> list[dict[str, Any]]:
    """Write all timings to rounds.csv, and one row per configuration to measured.csv.

    Args:
        folder: output folder.
        turns: all timings, in the order of measurement.
        confidence: level of the intervals.

    Returns:
        The rows of measured.csv.
    """
    rounds = list(_rounds(turns))
    measured = list(_measured(turns, confidence))
    for name, rows in ((ROUNDS, rounds), (MEASURED, measured)):
        write_table(folder / name, list(rows[0]), rows)
    return measured


def _rounds(turns: list[TimedRun]) -> Iterable[dict[str, Any]]:
    for turn in turns:
        order = {"round": turn.round, "place": turn.place}
        yield order | _columns(turn.configuration) | {"ms": f"{turn.ms:.6g}"}


def _measured(turns: list[TimedRun], confidence: float) -> Iterable[dict[str, Any]]:
    """Yield the median milliseconds and the corresponding images per second, with intervals."""
    own: dict[Configuration, list[float]] = {}
    for turn in turns:
        own.setdefault(turn.configuration, []).append(turn.ms)
    for configuration in sorted(own, key=_place):
        median, low, high = median_interval(own[configuration], confidence)
        rate = 1000 * configuration.images
        numbers = {
            "ms": median,
            "ms_low": low,
            "ms_high": high,
            "images_per_s": rate / median,
            "images_per_s_low": rate / high,
            "images_per_s_high": rate / low,
        }
        yield _columns(configuration) | {name: f"{value:.6g}" for name, value in numbers.items()}


def _columns(configuration: Configuration) -> dict[str, Any]:
    return asdict(configuration) | {"decoding": int(configuration.decoding)}


def _place(each: Configuration) -> tuple[Any, ...]:
    return (
        each.backbone,
        list(RUNTIMES).index(each.runtime),
        each.images,
        each.decoding,
        each.threads,
    )
