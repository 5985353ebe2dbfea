"""Assigns jobs to the GPUs of a machine: each job leases a slot, spread evenly over the GPUs.

Snakemake limits the number of jobs that use GPUs at a time (``--resources gpu=N``) but does not
assign them to GPUs. A lease is a kernel lock on a file, released when the process ends, however it
ends. The file is locked in two folders: in the machine's temporary folder, which all clones and
users share, and in the clone, since clusters often give each job a temporary folder of its own.
"""

from __future__ import annotations

import fcntl
import math
import os
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

# The maximum number of GPU jobs at a time on this machine, set by the Snakefile for local jobs. If
# there are fewer GPUs, jobs share them.
MAX_JOBS_VARIABLE = "CARBENCH_GPU_JOBS"
# Set in every job of Slurm, PBS, LSF and Grid Engine.
SCHEDULER_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID")
POLL_SECONDS = 0.2
CLONE_FOLDER = Path(".carbench/gpus")


def lease_gpu(gpus: Sequence[str], report: Callable[[str], None]) -> int:
    """Return the index of a GPU that this process may use until it ends.

    A single GPU in a scheduler's job is used as it is: the scheduler has assigned it, perhaps to
    several jobs.

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
            report(f"waiting for another job to release a GPU ({', '.join(gpus)})")
            reported = True
        time.sleep(POLL_SECONDS)


def _lock_slot(name: str) -> bool:
    """Lock a slot; return False if another process holds it."""
    # A clone may be shared by hosts, whose GPUs are others.
    clone = CLONE_FOLDER / socket.gethostname()
    clone.mkdir(parents=True, exist_ok=True)
    held = []
    for folder in (_shared_folder(), clone):
        file = _open_for_all(folder / f"{name}.lock")
        held.append(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            for each in held:
                os.close(each)
            return False
    return True  # the descriptors stay open, and the locks held, until the process ends


def _shared_folder() -> Path:
    """Return the folder of the locks in the machine's temporary folder, for jobs of all users."""
    folder = Path(tempfile.gettempdir()) / "carbench-gpus"
    umask = os.umask(0)
    try:
        folder.mkdir(0o1777, exist_ok=True)
    finally:
        os.umask(umask)
    return folder


def _open_for_all(path: Path) -> int:
    """Open a lock file that every user may lock, and create it if needed."""
    umask = os.umask(0)
    try:
        # Linux refuses O_CREAT on another user's file in a shared folder (fs.protected_regular).
        if not path.exists():
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
    finally:
        os.umask(umask)
    return os.open(path, os.O_RDWR)
