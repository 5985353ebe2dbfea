"""Times several configurations interleaved, so that disturbances affect all of them alike.

Latencies that are measured one after the other are not comparable, because the load, clock rate and
memory of a machine drift within seconds. Here each round runs all configurations in a new random
order, and results keep their round, so that configurations can be compared within rounds (a
randomised complete block design: Fisher, The Design of Experiments, 1935).
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

# Timed calls per run with one image. With more images, a single call is long enough.
CALLS_PER_RUN = 5


@dataclass(frozen=True)
class Configuration:
    """A configuration to be timed.

    Attributes:
        backbone: name of the backbone in the study.
        runtime: one of :data:`Runtime`.
        threads: CPU threads of one call.
        images: images per call.
        decoding: whether an image file is decoded and resized first.
    """

    backbone: str
    runtime: Runtime
    threads: int
    images: int
    decoding: bool


@dataclass(frozen=True)
class TimedRun:
    """The time of a configuration in a round: the median of its calls in milliseconds.

    ``place`` is its position in the order of the round.
    """

    round: int
    place: int
    configuration: Configuration
    ms: float


def time_interleaved(
    functions: dict[Configuration, Callable[[], object]],
    rounds: int,
    seed: int,
    progress: Callable[[range], Iterable[int]] = lambda rounds: rounds,
) -> list[TimedRun]:
    """Return ``rounds`` timed runs of each configuration, in the order of execution.

    Each run starts with an untimed call, because caches contain the data of the previous run.

    Args:
        functions: the function to time per configuration; it returns when its result is ready.
        rounds: number of rounds.
        seed: seed of the order.
        progress: wraps the iteration over rounds, for a progress bar.
    """
    configurations = list(functions)
    rng = default_rng(seed)
    timed_runs = []
    for function in functions.values():  # the first call allocates memory and selects kernels
        function()
    gc.collect()
    gc.disable()
    try:
        for number in progress(range(rounds)):
            for place, index in enumerate(rng.permutation(len(configurations))):
                configuration = configurations[index]
                ms = 1000 * _median_seconds(
                    functions[configuration], CALLS_PER_RUN if configuration.images == 1 else 1
                )
                timed_runs.append(TimedRun(number, place, configuration, ms))
    finally:
        gc.enable()
    return timed_runs


def _median_seconds(run: Callable[[], object], calls: int) -> float:
    """Return the median time of a call in seconds."""
    return statistics.median(time_calls(run, calls, warm_up=1))


def time_calls(run: Callable[[], object], repeats: int, warm_up: int) -> list[float]:
    """Return the time of each of ``repeats`` calls in seconds, after ``warm_up`` untimed calls."""
    seconds = []
    for repeat in range(warm_up + repeats):
        started = time.perf_counter()
        run()
        if repeat >= warm_up:
            seconds.append(time.perf_counter() - started)
    return seconds
