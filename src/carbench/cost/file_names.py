"""Names of the files in results/cost/, and displayed names of the runtimes."""

from __future__ import annotations

from carbench.models.timing import Runtime

# Exact counts; summary of the timings; individual timings; peak memory; measurement conditions.
EXACT, MEASURED, ROUNDS = "exact.csv", "measured.csv", "rounds.csv"
MEMORY, CONDITIONS = "memory.csv", "conditions.json"

# In display order, the served runtime first.
RUNTIMES: dict[Runtime, str] = {
    "onnx": "ONNX Runtime",
    "onnx-int8": "ONNX Runtime, 8 bits",
    "torch": "torch (eager)",
    "torch-cuda": "torch on the GPU",
}
# The meaning of `latency_ms`: the served runtime, one thread, one image, without decoding.
SERVED = {"runtime": "onnx", "threads": "1", "images": "1", "decoding": "0"}
