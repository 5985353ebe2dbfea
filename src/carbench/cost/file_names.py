"""Names in results/cost/: of its files, and of the runtimes in them."""

from __future__ import annotations

from carbench.models.timing import Runtime

# What is counted; what was timed; every turn of it; peaks of memory; on what it was measured.
EXACT, MEASURED, ROUNDS = "exact.csv", "measured.csv", "rounds.csv"
MEMORY, CONDITIONS = "memory.csv", "conditions.json"

# In the order in which they are shown, the one that is served first.
RUNTIMES: dict[Runtime, str] = {
    "onnx": "ONNX Runtime",
    "onnx-int8": "ONNX Runtime, 8 bits",
    "torch": "torch (eager)",
    "torch-cuda": "torch on the GPU",
}
# What `latency_ms` means: the model alone, on one thread, with one image, in the served runtime.
SERVED = {"runtime": "onnx", "threads": "1", "images": "1", "decoding": "0"}
