"""Measure how often stage cost would call a backbone slower than itself.

`python benchmarks/cost.py`: each trial loads one ONNX file twice and times both alternately, as
stage cost does, then one after the other with the same number of rounds. At 95 % confidence, up to
5 of 100 trials may find a difference.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from statistics import median

from carbench.core.provenance import hardware
from carbench.cost.median_intervals import is_slower, median_interval
from carbench.cost.untrained_onnx import GraphShape, onnx_path, write_graphs
from carbench.models.onnx_classifier import OnnxModel
from carbench.models.timing import Configuration, time_interleaved

CONFIDENCE = 0.95


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="test_resnet", help="name of a timm model")
    parser.add_argument("--size", type=int, default=48, help="image size in pixels")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=200)
    arguments = parser.parse_args()
    shape = GraphShape(arguments.size, arguments.size, tuple("abcdef"))
    pixels = shape.random_images(1)
    in_turns = apart = 0
    widths = []
    with tempfile.TemporaryDirectory() as folder:
        write_graphs("same", arguments.model, shape, Path(folder), int8=False)
        path = onnx_path(Path(folder), "same", int8=False)
        for trial in range(arguments.trials):
            first, second = OnnxModel(path, 1), OnnxModel(path, 1)
            runs = {
                Configuration(name, "onnx", 1, 1, decoding=False): lambda model=model: (
                    model.predict(pixels)
                )
                for name, model in (("first", first), ("second", second))
            }
            together = times_of(runs, arguments.rounds, trial)
            in_turns += differ(*together)
            widths.append(width(*together))
            alone = [
                times_of({name: run}, arguments.rounds, trial)[0] for name, run in runs.items()
            ]
            apart += differ(*alone)
    print(json.dumps(hardware()), f"load average {os.getloadavg()[0]:.1f}")
    print(f"{arguments.model}, {arguments.size} px, {arguments.trials} trials:")
    print(f"differences found: {in_turns} alternately, {apart} one after the other")
    print(f"width of the ratio's interval, alternately: {100 * median(widths):.1f} % (median)")


def times_of(runs: dict[Configuration, object], rounds: int, seed: int) -> list[list[float]]:
    """Return the milliseconds per round of each configuration."""
    turns = time_interleaved(runs, rounds, seed)  # type: ignore[arg-type]
    return [[turn.ms for turn in turns if turn.configuration == each] for each in runs]


def differ(ours: list[float], theirs: list[float]) -> bool:
    """Return whether one of the two would be called slower."""
    return is_slower(ours, theirs, CONFIDENCE) or is_slower(theirs, ours, CONFIDENCE)


def width(ours: list[float], theirs: list[float]) -> float:
    """Return the width of the interval of their ratio."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    _, low, high = median_interval(ratios, CONFIDENCE)
    return high - low


if __name__ == "__main__":
    main()
