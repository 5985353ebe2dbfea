#!/usr/bin/env python3
"""Launcher for Google Batch: runs the command that is appended to it on a VM of its own.

    google_batch.py {job_id} {threads} {resources.mem_mb} {resources.runtime} {resources.gpu}

`gcloud` must be logged in (docs/launchers.md). google_batch.yaml has what all jobs have in common
(Spot or standard VMs, disk, retries); edit it for your project. These environment variables
complete it:

    CARBENCH_IMAGE            container image, with this repository in /carbench
    CARBENCH_PROJECT          the project
    CARBENCH_REGION           the region, such as europe-west4
    CARBENCH_SERVICE_ACCOUNT  (optional) e-mail address of a service account that may use the
                              bucket, instead of the project's default
    CARBENCH_MACHINE_TYPE     (optional) machine type of jobs without GPU, instead of one that Batch
                              selects
    CARBENCH_GPU_MACHINE_TYPE machine type of jobs with GPU, such as g2-standard-8
    CARBENCH_GPU_TYPE         (optional) accelerator, such as nvidia-tesla-t4, for machine types
                              that have no GPU of their own (N1)
    CARBENCH_POLL_SECONDS     (optional) time between two questions to Batch (60)
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

from launcher import ClientError, Job, State, call, launch, read_job, read_template, setting

# Other states are those of a job that is being cancelled or deleted.
STATES = {
    "STATE_UNSPECIFIED": State.ACTIVE,
    "QUEUED": State.ACTIVE,
    "SCHEDULED": State.ACTIVE,
    "RUNNING": State.ACTIVE,
    "SUCCEEDED": State.SUCCEEDED,
}


def configuration(job: Job) -> dict[str, Any]:
    """Return the configuration of a job, in the JSON form of the API (v1)."""
    filled = read_template(__file__)
    (group,) = filled["taskGroups"]
    task = group["taskSpec"]
    container = task["runnables"][0]["container"]
    container["imageUri"] = setting("CARBENCH_IMAGE", "a container image with carbench")
    # Batch does not use the image's entrypoint on machines with GPUs.
    container["entrypoint"], *container["commands"] = job.command
    task["computeResource"].update(cpuMilli=job.threads * 1000, memoryMib=job.mem_mb)
    task["maxRunDuration"] = f"{job.minutes * 60}s"
    allocation = filled["allocationPolicy"]
    (instances,) = allocation["instances"]
    machine_type = os.environ.get("CARBENCH_MACHINE_TYPE")
    if job.gpus:
        machine_type = setting("CARBENCH_GPU_MACHINE_TYPE", "a machine type with GPUs")
        instances["installGpuDrivers"] = True
        if accelerator := os.environ.get("CARBENCH_GPU_TYPE"):
            instances["policy"]["accelerators"] = [{"type": accelerator, "count": job.gpus}]
    if machine_type:
        instances["policy"]["machineType"] = machine_type
    if account := os.environ.get("CARBENCH_SERVICE_ACCOUNT"):
        allocation["serviceAccount"] = {"email": account}
    return filled


class GoogleBatch:
    """Google Batch in a region of a project."""

    poll_seconds = 60.0  # each question starts gcloud, which takes more CPU time than kubectl

    def __init__(self) -> None:
        self._place = (
            "--project=" + setting("CARBENCH_PROJECT", "a project of Google Cloud"),
            "--location=" + setting("CARBENCH_REGION", "a region, such as europe-west4"),
        )

    def state(self, name: str) -> State:
        """Return the state of a job."""
        try:
            text = self._jobs("describe", name, "--format=value(status.state)")
        except ClientError as error:
            if _says_not_found(error):
                return State.ABSENT
            raise
        return STATES.get(text.strip(), State.FAILED)

    def create(self, name: str, job: Job) -> None:
        """Submit a job."""
        self._jobs("submit", name, "--config=-", stdin=json.dumps(configuration(job)))

    def explain(self, name: str) -> int:
        """Print what has happened to a job; the exit status is only in the text."""
        found = json.loads(self._jobs("describe", name, "--format=json"))
        for event in found["status"].get("statusEvents", []):
            print(f"{name}: {event.get('description')}", file=sys.stderr)
        query = f"labels.job_uid={found['uid']}"
        print(f"{name} has failed. Its log: gcloud logging read {query}", file=sys.stderr)
        return 1

    def delete(self, name: str) -> None:
        """Delete a job."""
        try:
            self._jobs("delete", name)
        except ClientError as error:
            if not _says_not_found(error):
                raise

    def _jobs(self, verb: str, name: str, *options: str, stdin: str | None = None) -> str:
        words = ("batch", "jobs", verb, name, *options, *self._place, "--quiet")
        return call("gcloud", *words, stdin=stdin)


def _says_not_found(error: ClientError) -> bool:
    """Return whether gcloud's message, for which it has no exit status, is that of HTTP 404."""
    return bool(
        re.search(r"could not fetch resource|not.found|code=404", str(error), re.IGNORECASE)
    )


if __name__ == "__main__":
    described = read_job(str(__doc__))
    configuration(described)  # names missing settings before Batch is asked
    sys.exit(launch(GoogleBatch(), described))
