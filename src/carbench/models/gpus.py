"""Which GPU a job computes on: each local job leases a place on one, evenly over all of them.

Snakemake knows how many trainings may use GPUs at a time (``--resources gpu=N``), not on which of
several GPUs each one is. A lease is a lock of the kernel on a file that all clones on the machine
share; any death releases it. Where a scheduler has already chosen, its choice stands.
"""

from __future__ import annotations

import fcntl
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# How many jobs of one engine may use GPUs at a time; the Snakefile sets it. More than there are
# GPUs share them.
PLACES = "CARBENCH_GPU_PLACES"
# One GPU is visible and one of these is set: a scheduler or a person has chosen it.
CHOSEN = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")
POLL_SECONDS = 0.2


def lease(gpus: Sequence[str], waiting: Callable[[str], None]) -> int:
    """Return the index of a GPU that this process may use until it ends.

    Args:
        gpus: what tells the visible GPUs apart on this machine, in torch's order; at least one.
        waiting: told once, in a sentence, if all are taken.
    """
    if len(gpus) == 1 and any(os.environ.get(name) for name in CHOSEN):
        return 0
    each = max(1, math.ceil(int(os.environ.get(PLACES) or 1) / len(gpus)))
    told = False
    while True:
        # All first places before any second one: the jobs spread over the GPUs.
        for place in range(each):
            for index, gpu in enumerate(gpus):
                if _take(f"{gpu}-{place}"):
                    return index
        if not told:
            waiting(f"all {len(gpus)} GPUs are in use; waiting for one")
            told = True
        time.sleep(POLL_SECONDS)


def _take(name: str) -> bool:
    """Lock a place; False if another process has it."""
    folder = Path(tempfile.gettempdir()) / "carbench-gpus"
    if not folder.exists():
        folder.mkdir(exist_ok=True)
        folder.chmod(0o1777)  # other people's jobs are on the same GPUs
    file = os.open(folder / f"{name}.lock", os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    return True  # the descriptor stays open, and the lock held, until the process ends
