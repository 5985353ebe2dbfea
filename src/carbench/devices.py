"""Puts torch on the device and the threads that a section of params.yaml asks for."""

from __future__ import annotations

import os

import torch

from carbench.errors import CarbenchError
from carbench.params.compute import ComputeSection


def prepare(params: ComputeSection, section: str) -> torch.device:
    """Set torch's threads and its deterministic algorithms, and return the device.

    On a CPU the same seed, thread count and machine then give the same bits. A GPU may still
    differ in the last bits from another model of GPU.
    """
    # cuBLAS repeats itself only with this workspace; it must be set before the first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(params.threads)
    if params.device == "cuda" and not torch.cuda.is_available():
        raise CarbenchError(
            "params.yaml",
            key=f"{section}.device",
            found="'cuda', but torch sees no GPU",
            expected="a GPU with a driver for this torch",
            fix=f"set {section}.device: cpu, or run where there is a GPU",
        )
    return torch.device(params.device)
