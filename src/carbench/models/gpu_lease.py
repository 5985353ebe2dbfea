"""Assigns jobs to the GPUs of a machine: each job leases a slot, spread evenly over the GPUs.

Snakemake limits the number of jobs that use GPUs at a time (``--resources gpu=N``) but does not
assign them to GPUs. A lease is a kernel lock on a file, released when the process ends, however it
ends. The file is locked in two folders: in the machine's temporary folder, which all clones share,
and in the clone, since clusters often give each job a temporary folder of its own. A GPU selected
by a scheduler is respected.
"""

from __future__ import annotations

import fcntl
import math
import os
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# The maximum number of GPU jobs at a time on this machine, set by the Snakefile for local jobs. If
# there are fewer GPUs, jobs share them.
MAX_JOBS_VARIABLE = "CARBENCH_GPU_JOBS"
# If a single GPU is visible and one of these is set, a scheduler or the user has selected it.
SCHEDULER_VARIABLES = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
POLL_SECONDS = 0.2
CLONE_FOLDER = Path(".carbench/gpus")


def lease_gpu(gpus: Sequence[str], report: Callable[[str], None]) -> int:
    """Return the index of a GPU that this process may use until it ends.

    Args:
        gpus: unique names of the visible GPUs, in torch's order; at least one.
        report: called once with a message if all are in use.
    """
    if len(gpus) == 1 and any(os.environ.get(name) for name in SCHEDULER_VARIABLES):
        return 0
    slots = max(1, math.ceil(int(os.environ.get(MAX_JOBS_VARIABLE) or 1) / len(gpus)))
    reported = False
    while True:
        # All first slots before any second one, to spread the jobs over the GPUs.
        for slot in range(slots):
            for index, gpu in enumerate(gpus):
                if _lock_slot(f"{gpu}-{slot}"):
                    return index
        if not reported:
            report(f"all {len(gpus)} GPUs are in use; waiting for one")
            reported = True
        time.sleep(POLL_SECONDS)


def _lock_slot(name: str) -> bool:
    """Lock a slot; return False if another process holds it."""
    machine = Path(tempfile.gettempdir()) / "carbench-gpus"
    if not machine.exists():
        machine.mkdir(exist_ok=True)
        machine.chmod(0o1777)  # shared with the jobs of other users
    clone = CLONE_FOLDER / socket.gethostname()
    clone.mkdir(parents=True, exist_ok=True)
    held = []
    for folder in (machine, clone):
        file = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        held.append(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            for each in held:
                os.close(each)
            return False
    return True  # the descriptors stay open, and the locks held, until the process ends
