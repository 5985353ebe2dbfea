"""The files of stage cost, made up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from carbench.core.tables import write_json, write_table
from carbench.cost.file_names import CONDITIONS, EXACT, MEMORY
from carbench.cost.latency_tables import write_latencies
from carbench.models.timing import Configuration, TimedRun

HARDWARE = {"processor": "Abacus", "cores": 2, "memory_gb": 1.0, "gpus": [], "system": "Linux"}
KINDS: list[tuple[Any, ...]] = [
    ("onnx", 1, 1, False),
    ("onnx", 1, 1, True),
    ("onnx", 1, 32, False),
    ("onnx", 2, 1, False),
    ("torch", 1, 1, False),
]


def write_costs(folder: Path, latencies: dict[str, Sequence[float]]) -> None:
    """Write what stage cost writes, of backbones with these milliseconds in each round."""
    turns = [
        TimedRun(number, 0, Configuration(name, *kind), ms)
        for name, by_round in latencies.items()
        for kind in KINDS
        for number, ms in enumerate(by_round)
    ]
    folder.mkdir()
    write_latencies(folder, turns, 0.95)
    exact = {"model": "m", "parameters": 1, "macs": 2, "onnx_bytes": 3}
    memory = {"runtime": "onnx", "peak_mb": 5}
    for name, row in ((EXACT, exact), (MEMORY, memory)):
        rows = [{"backbone": backbone} | row for backbone in latencies]
        write_table(folder / name, list(rows[0]), rows)
    conditions = {
        **{"measured": "2026-01-01T00:00", "hardware": HARDWARE, "load_average": 1.0},
        "versions": {"onnxruntime": "1.2"},
        "example": {"format": "JPEG", "width": 40, "height": 30},
        "params": {"rounds": 6, "confidence": 0.95},
    }
    write_json(folder / CONDITIONS, conditions)
