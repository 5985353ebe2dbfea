#!/usr/bin/env python3
"""Prints the configuration of the job of Google Batch that runs a study, as JSON.

    batch_job.py NAME CPUS MEMORY_MB MINUTES GPUS COMMAND [WORD...]

The job is that of workflow/launchers/google_batch.py, with its template and its environment
variables, and in addition these:

    CARBENCH_NAME        value of the label `carbench` of the job and of its VM
    CARBENCH_SPOT        yes, or no for a VM that is not reclaimed
    CARBENCH_GPU_DRIVER  (optional) version of NVIDIA's driver; needs CARBENCH_GPU_TYPE
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "workflow/launchers"))
from google_batch import configuration

from launcher import fail, read_job, setting

if __name__ == "__main__":
    job = configuration(read_job(str(__doc__)))
    labels = {"carbench": setting("CARBENCH_NAME", "the name of the deployment")}
    allocation = job["allocationPolicy"]
    for labelled in (job, allocation):
        labelled.setdefault("labels", {}).update(labels)
    (instances,) = allocation["instances"]
    policy = instances["policy"]
    policy["provisioningModel"] = "SPOT" if os.environ.get("CARBENCH_SPOT") == "yes" else "STANDARD"
    if driver := os.environ.get("CARBENCH_GPU_DRIVER"):
        if "accelerators" not in policy:
            fail("CARBENCH_GPU_DRIVER needs a GPU and CARBENCH_GPU_TYPE, such as nvidia-l4")
        policy["accelerators"][0]["driverVersion"] = driver
    print(json.dumps(job, indent=2))
