"""Run simulations: the command line, processes and timing that all simulations share."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pool
from typing import Any

import numpy as np

from carbench.core.provenance import hardware


@contextmanager
def timed() -> Iterator[None]:
    """Print the hardware and the block's duration in seconds to stderr."""
    started = time.perf_counter()
    yield
    print(json.dumps(hardware()), f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


def mean_of_studies(
    scenario: Any, studies: int, judge: Callable[[np.random.Generator], Sequence[float]]
) -> list[float]:
    """Return the means of values that are computed for each of many simulated studies.

    Args:
        scenario: its ``repr`` is the seed of the random generator.
        studies: number of studies.
        judge: simulates and evaluates one study.
    """
    rng = np.random.default_rng([0, *map(int, os.fsencode(repr(scenario)))])
    judged = [judge(rng) for _ in range(studies)]
    return [float(mean) for mean in np.mean(judged, axis=0)]


def simulate_and_print(
    description: str | None,
    scenarios: Sequence[Any],
    average: Callable[[Any, int], Any],
    table: Callable[[dict[Any, Any]], str],
) -> None:
    """Simulate `--studies` studies of each scenario in two processes, and print a table.

    Args:
        description: of the command.
        scenarios: hashable.
        average: a module-level function from a scenario and a number of studies to a result.
        table: a function from the results by scenario to text.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--studies", type=int, default=1000, help="studies per scenario")
    arguments = parser.parse_args()
    with timed(), Pool(2) as pool:
        tasks = [(each, arguments.studies) for each in scenarios]
        print(table(dict(zip(scenarios, pool.starmap(average, tasks, chunksize=1), strict=True))))
