"""Names of the visible GPUs that do not depend on how they were selected.

``CUDA_VISIBLE_DEVICES`` selects a GPU by index, by uuid, by the first digits of its uuid, or a MIG
slice by one of two names; in a container or a cluster's job, index 0 may be any GPU. The driver
knows which uuid each visible device has.
"""

from __future__ import annotations

import ctypes
from uuid import UUID

import torch


def visible_gpus() -> list[str]:
    """Return the uuid of each visible GPU or MIG slice, in torch's order.

    The caller has checked that torch sees a GPU.
    """
    # Until CUDA is initialised, torch counts GPUs without CUDA, and for a machine whose GPUs are
    # divided by MIG it counts more than the single slice that a process sees.
    torch.cuda.init()
    return [_uuid(index) for index in range(torch.cuda.device_count())]


def _uuid(index: int) -> str:
    """Return the uuid of a visible device; of a MIG slice its own, not that of the whole GPU."""
    device, found = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        failed = driver.cuDeviceGet(ctypes.byref(device), ctypes.c_int(index))
        failed = failed or driver.cuDeviceGetUuid_v2(ctypes.byref(found), device)
    except (OSError, AttributeError):  # no driver of NVIDIA's under this name
        failed = True
    if failed:
        return str(torch.cuda.get_device_properties(index).uuid)
    return str(UUID(bytes=bytes(found)))
