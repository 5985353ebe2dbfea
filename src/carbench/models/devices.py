"""Sets up torch for the device and the threads of a section of params.yaml."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from carbench.core.errors import CarbenchError
from carbench.models.gpu_lease import lease_gpu
from carbench.models.gpu_names import visible_gpus
from carbench.params.compute import ComputeSection

log = logging.getLogger("carbench")

FLOATS_OF_A_REGISTER = 16  # AVX-512; AVX2 has 8
# Of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3


def move_to_device(model: nn.Module, device: torch.device, channels_last: bool = True) -> nn.Module:
    """Move a model to a device, by default in the channels-last memory format.

    A training step of the four default backbones then takes 0.63 to 0.90 of the time on a CPU
    (medians of 30 steps, batch 32, 48 pixels, one thread, AMD EPYC, torch 2.15, 2026-11-23), and
    GPUs have fast convolutions for this layout.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    moved: nn.Module = model.to(device, memory_format=layout)  # type: ignore[call-overload]
    if channels_last and device.type == "cpu":
        _avoid_channels_last_overflow(moved)
    return moved


def uses_bfloat16(precision: str, model: nn.Module, device: torch.device) -> bool:
    """Return whether a model is trained in bfloat16 (the weights stay in float32).

    ``auto`` uses it where it is faster: on GPUs that support it, and on CPUs that support it
    (AVX-512 BF16, AMX) for models without depthwise or grouped convolutions. A step then takes 0.75
    of the time (test_resnet), with such convolutions 1.3 (test_convnext) to 2.2 times the time
    (mobilenetv3_small_050; AMD EPYC, one thread, 48 pixels, 2026-11-25).
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_supports_bfloat16() and not any(
        isinstance(module, nn.Conv2d) and module.groups > 1 for module in model.modules()
    )


def cpu_supports_bfloat16() -> bool:
    """Return whether this CPU has instructions for bfloat16; others emulate it slowly."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def set_up_device(params: ComputeSection, section: str) -> torch.device:
    """Set the threads and deterministic algorithms of torch; return the device, leasing a GPU.

    The same seed, thread count and machine then give the same bits on a CPU. On GPUs, the last bits
    may depend on the GPU model. ``torch.backends.cudnn.benchmark`` stays off, because it selects
    algorithms by measured time: another run might select others, with different bits.
    """
    # cuBLAS is deterministic only with this workspace; it must be set before the first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Same as torch.use_deterministic_algorithms(True), but without importing the compiler.
    torch.set_deterministic_debug_mode("error")
    torch.set_num_threads(params.threads)
    if params.device != "cuda":
        _keep_freed_memory()
        return torch.device(params.device)
    if not torch.cuda.is_available():
        raise _no_gpu_error(section)
    device = torch.device("cuda", lease_gpu(visible_gpus(), log.info))
    torch.cuda.set_device(device)
    # By default torch rounds the inputs of float32 convolutions to TF32 (10 mantissa bits). Without
    # it, predictions agree with those of a CPU; ``precision: auto`` trains in bfloat16 anyway.
    torch.backends.cudnn.allow_tf32 = False
    return device


@contextmanager
def without_filling_memory() -> Iterator[None]:
    """Do not fill new memory with NaN, as torch does with deterministic algorithms.

    The filling shows that an operator, or a weight that was never initialised, makes results depend
    on what was in memory before. It takes 0.1 to 0.2 of a training step. Models are therefore
    created and tried out with it (:mod:`carbench.models.dry_run`), and trained without.
    """
    switch: Any = torch.utils.deterministic  # a module with a property, which mypy does not know
    filling = switch.fill_uninitialized_memory
    switch.fill_uninitialized_memory = False
    try:
        yield
    finally:
        switch.fill_uninitialized_memory = filling


def _no_gpu_error(section: str) -> CarbenchError:
    """Return the error for ``device: cuda`` where torch sees no GPU."""
    found, fix = "'cuda', but torch sees no GPU", "run on a machine with a GPU"
    selected = os.environ.get("CUDA_VISIBLE_DEVICES")
    if selected is not None:
        found += f" (CUDA_VISIBLE_DEVICES={selected!r})"
        fix = (
            "select one that `nvidia-smi -L` lists, or unset CUDA_VISIBLE_DEVICES; in a scheduler's"
            " job, request a GPU"
        )
    return CarbenchError(
        "params.yaml",
        key=f"{section}.device",
        found=found,
        expected="a GPU with a driver for this torch",
        fix=f"{fix}; or set {section}.device: cpu",
    )


@contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """Allow TF32 (10 mantissa bits) in float32 matrix products on a GPU; no effect on a CPU."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory so far: of tensors on a GPU, of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, on macOS bytes
    return most / 1e6 if sys.platform == "darwin" else most / 1e3


def _avoid_channels_last_overflow(model: nn.Module) -> None:
    """Compute strided 1x1 convolutions of few channels in the contiguous layout.

    In the channels-last layout, oneDNN's gradient of their weights writes past its buffer if there
    are fewer input channels than fit a vector register: the process crashes, or the gradient is
    wrong (https://github.com/uxlfoundation/oneDNN/issues/6035, open on 2026-11-28). The first layer
    of FastViT is one.
    """
    for module in model.modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.kernel_size == (1, 1)
            and module.stride != (1, 1)
            and module.in_channels < FLOATS_OF_A_REGISTER
        ):
            module.to(memory_format=torch.contiguous_format)
            module.register_forward_pre_hook(_make_contiguous)


def _make_contiguous(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return inputs[0].contiguous()


def _keep_freed_memory() -> None:
    """Make the C library keep freed memory, which the next training step needs again.

    By default, glibc returns large blocks to the kernel, and the page faults of the next allocation
    take 9 % of a step of test_resnet (33 ms; AMD EPYC, one thread, 2026-11-25). The peak memory is
    the same.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(M_MMAP_THRESHOLD, 2**30)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
