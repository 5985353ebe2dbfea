"""Times many configurations side by side, so that what disturbs the machine disturbs all of them.

Latencies that were measured one after the other do not compare: a neighbour's load, the clock rate
and the memory of a machine drift within seconds. Here all take turns in rounds, in a random order
that is drawn anew for each round, and the round stays in the result, so that two configurations can
be compared within it (a randomised complete block design: Fisher, The Design of Experiments, 1935).
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from numpy.random import default_rng

Runtime = Literal["onnx", "onnx-int8", "torch", "torch-cuda"]

# Timed calls of a turn with one image. A turn with many is long enough for one call.
CALLS = 5


@dataclass(frozen=True)
class Configuration:
    """What is timed.

    Attributes:
        backbone: its name in the study.
        runtime: of :data:`carbench.cost.file_names.RUNTIMES`.
        threads: that one call computes with, on the CPU.
        images: at a time.
        decoding: whether an image file is decoded and resized first.
    """

    backbone: str
    runtime: Runtime
    threads: int
    images: int
    decoding: bool


@dataclass(frozen=True)
class Turn:
    """The time of a configuration in a round: milliseconds of a call, the median of its calls.

    ``place`` is when in the round it had its turn.
    """

    round: int
    place: int
    configuration: Configuration
    ms: float


def take_turns(
    runs: dict[Configuration, Callable[[], object]],
    rounds: int,
    seed: int,
    count: Callable[[range], Iterable[int]] = lambda rounds: rounds,
) -> list[Turn]:
    """Return ``rounds`` turns of each configuration, in the order in which they were taken.

    A turn opens with a call that is not timed: caches hold what the last one left in them.

    Args:
        runs: what to call for each configuration; it returns when its result is in memory.
        rounds: in which all take a turn.
        seed: of their order.
        count: told of the rounds, yields them: for a progress bar.
    """
    configurations = list(runs)
    rng = default_rng(seed)
    turns = []
    for run in runs.values():  # the first call of all allocates and chooses kernels
        run()
    gc.collect()
    gc.disable()
    try:
        for number in count(range(rounds)):
            for place, index in enumerate(rng.permutation(len(configurations))):
                configuration = configurations[index]
                ms = 1000 * _turn(runs[configuration], CALLS if configuration.images == 1 else 1)
                turns.append(Turn(number, place, configuration, ms))
    finally:
        gc.enable()
    return turns


def _turn(run: Callable[[], object], calls: int) -> float:
    """Return the median seconds of a call."""
    return statistics.median(times(run, calls, warm_up=1))


def times(run: Callable[[], object], repeats: int, warm_up: int) -> list[float]:
    """Return the seconds of each of ``repeats`` calls, after ``warm_up`` others."""
    seconds = []
    for repeat in range(warm_up + repeats):
        started = time.perf_counter()
        run()
        if repeat >= warm_up:
            seconds.append(time.perf_counter() - started)
    return seconds
