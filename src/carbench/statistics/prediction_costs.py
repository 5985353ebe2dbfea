"""Reads the tables of stage cost and compares the costs of backbones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from carbench.core.tables import damaged, read_json, read_table
from carbench.cost.file_names import CONDITIONS, EXACT, MEASURED, MEMORY, ROUNDS, SERVED
from carbench.cost.median_intervals import is_slower
from carbench.statistics.confidence_intervals import Interval

CostBy = Literal["macs", "parameters", "latency_ms"]
MODEL_ONLY = SERVED
WITH_DECODING = SERVED | {"decoding": "1"}
TORCH = SERVED | {"runtime": "torch"}


@dataclass(frozen=True)
class Cost:
    """Cost of a prediction of one backbone. Latencies are for one image on one thread.

    Attributes:
        model: timm model name.
        parameters: number of parameters.
        macs: multiply-accumulates per image.
        onnx_bytes: size of the exported file.
        latency_ms: in ONNX Runtime, from the pixels of a downscaled image to probabilities.
        end_to_end_ms: in ONNX Runtime, from an image file to probabilities.
        torch_ms: in eager torch, from pixels to probabilities.
        memory_mb: peak memory of a process that serves it with ONNX Runtime.
        by_round: ``latency_ms`` of each round, in which each backbone was timed once.
        runtime: the ONNX Runtime used, with its version and device.
        machine: the processor used.
    """

    model: str
    parameters: int
    macs: int
    onnx_bytes: int
    latency_ms: Interval
    end_to_end_ms: Interval
    torch_ms: Interval
    memory_mb: float
    by_round: tuple[float, ...]
    runtime: str
    machine: str

    def value(self, by: CostBy) -> float:
        """Return the cost by which backbones are compared."""
        return self.latency_ms.value if by == "latency_ms" else float(getattr(self, by))

    def is_more_expensive(self, other: Cost, by: CostBy, confidence: float) -> bool:
        """Return whether it costs more; latencies must differ significantly, paired by round."""
        if by == "latency_ms":
            return is_slower(self.by_round, other.by_round, confidence)
        return self.value(by) > other.value(by)


def read_costs(folder: Path, backbones: list[str]) -> dict[str, Cost]:
    """Return the cost of each backbone, from the files of stage cost.

    Raises:
        CarbenchError: a file is missing or damaged, or lacks a backbone.
    """
    measured = read_table(folder / MEASURED, (*SERVED, "backbone", "ms", "ms_low", "ms_high"))
    rounds = read_table(folder / ROUNDS, (*SERVED, "backbone", "round", "ms"))
    memory = read_table(folder / MEMORY, ("backbone", "runtime", "peak_mb"))
    conditions = read_json(folder / CONDITIONS)
    exact = read_table(folder / EXACT, ("backbone", "model", "parameters", "macs", "onnx_bytes"))
    costs = {}
    for name in backbones:
        own = {"backbone": name}
        (row,) = _select(exact, own, folder / EXACT)
        (peak,) = _select(memory, own | {"runtime": SERVED["runtime"]}, folder / MEMORY)
        costs[name] = Cost(
            model=row["model"],
            parameters=int(row["parameters"]),
            macs=int(row["macs"]),
            onnx_bytes=int(row["onnx_bytes"]),
            latency_ms=_median(measured, own | MODEL_ONLY, folder / MEASURED),
            end_to_end_ms=_median(measured, own | WITH_DECODING, folder / MEASURED),
            torch_ms=_median(measured, own | TORCH, folder / MEASURED),
            memory_mb=float(peak["peak_mb"]),
            by_round=_times(rounds, own | MODEL_ONLY, folder / ROUNDS),
            runtime=f"ONNX Runtime {conditions['versions']['onnxruntime']}, CPU, 1 thread",
            machine=conditions["hardware"]["processor"],
        )
    return costs


def _median(rows: list[dict[str, str]], kind: Mapping[str, str], path: Path) -> Interval:
    (row,) = _select(rows, kind, path)
    return Interval(*(float(row[column]) for column in ("ms", "ms_low", "ms_high")))


def _times(rows: list[dict[str, str]], kind: Mapping[str, str], path: Path) -> tuple[float, ...]:
    ordered = sorted(_select(rows, kind, path), key=lambda row: int(row["round"]))
    return tuple(float(row["ms"]) for row in ordered)


def _select(
    rows: list[dict[str, str]], kind: Mapping[str, str], path: Path
) -> list[dict[str, str]]:
    found = [row for row in rows if kind.items() <= row.items()]
    if not found:
        raise damaged(
            path, f"no row with {', '.join(f'{key} {value}' for key, value in kind.items())}"
        )
    return found
