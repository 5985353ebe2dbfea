#!/usr/bin/env python3
"""Launcher for Kubernetes: runs the command that is appended to it in a Job (docs/launchers.md).

    kubernetes.py {job_id} {threads} {resources.mem_mb} {resources.runtime} {resources.gpu}

`kubectl` must have access to the cluster. kubernetes.yaml has what all Jobs have in common; edit it
for your cluster. These environment variables complete it:

    CARBENCH_IMAGE            container image, with this repository in /carbench
    CARBENCH_NAMESPACE        (optional) instead of the namespace of kubectl's context
    CARBENCH_SERVICE_ACCOUNT  (optional) service account that may use the bucket
    CARBENCH_SECRET           (optional) Secret whose keys are environment variables of the job,
                              such as AWS_ACCESS_KEY_ID
    CARBENCH_POLL_SECONDS     (optional) time between two questions to the cluster (20)
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from launcher import ClientError, Job, State, call, launch, read_job, read_template, setting

LOG_LINES = 30


def manifest(name: str, job: Job) -> dict[str, Any]:
    """Return the manifest of a Job."""
    filled = read_template(__file__)
    filled["metadata"]["name"] = name
    pod = filled["spec"]["template"]["spec"]
    # The pod's time starts on its node; that of the Job would include the wait for a node.
    pod["activeDeadlineSeconds"] = job.minutes * 60
    (container,) = pod["containers"]
    container["image"] = setting("CARBENCH_IMAGE", "a container image with carbench")
    container["command"] = job.command
    amounts = {"cpu": str(job.threads), "memory": f"{job.mem_mb}M"}
    if job.gpus:
        amounts["nvidia.com/gpu"] = str(job.gpus)
        # Nodes with GPUs often repel other pods.
        toleration = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
        pod.setdefault("tolerations", []).append(toleration)
    for kind in ("requests", "limits"):
        container.setdefault("resources", {}).setdefault(kind, {}).update(amounts)
    if account := os.environ.get("CARBENCH_SERVICE_ACCOUNT"):
        pod["serviceAccountName"] = account
    if secret := os.environ.get("CARBENCH_SECRET"):
        container.setdefault("envFrom", []).append({"secretRef": {"name": secret}})
    return filled


class Kubernetes:
    """The cluster of kubectl's context."""

    poll_seconds = 20.0

    def state(self, name: str) -> State:
        """Return the state of a Job."""
        text = self._kubectl("get", "job", name, "--ignore-not-found", "--output=json")
        if not text.strip():
            return State.ABSENT
        found = json.loads(text)
        conditions = found.get("status", {}).get("conditions", [])
        ended = {item["type"] for item in conditions if item["status"] == "True"}
        if "Complete" in ended:
            return State.SUCCEEDED
        if "Failed" in ended or "deletionTimestamp" in found["metadata"]:
            return State.FAILED
        return State.ACTIVE

    def create(self, name: str, job: Job) -> None:
        """Create a Job."""
        self._kubectl("create", "--filename=-", stdin=json.dumps(manifest(name, job)))

    def explain(self, name: str) -> int:
        """Print the end of the log of the last pod; return its exit status."""
        selector = f"--selector=batch.kubernetes.io/job-name={name}"
        pods = json.loads(self._kubectl("get", "pods", selector, "--output=json"))["items"]
        if not pods:
            print(f"{name} has failed, and has no pod (`kubectl describe job`)", file=sys.stderr)
            return 1
        pod = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        pod_name, status = pod["metadata"]["name"], pod["status"]
        containers = status.get("containerStatuses", [])
        ends = [item["state"].get("terminated", {}) for item in containers]
        reasons = [status.get("reason"), *(end.get("reason") for end in ends)]
        print(f"{pod_name} has failed: {', '.join(filter(None, reasons))}", file=sys.stderr)
        try:
            print(self._kubectl("logs", pod_name, f"--tail={LOG_LINES}"), file=sys.stderr)
        except ClientError as error:
            print(f"no log: {error}", file=sys.stderr)
        return next((int(end["exitCode"]) for end in ends if end.get("exitCode")), 1)

    def delete(self, name: str) -> None:
        """Delete a Job; it disappears after its pod."""
        options = ("--ignore-not-found", "--cascade=foreground", "--wait=false")
        self._kubectl("delete", "job", name, *options)

    def _kubectl(self, *words: str, stdin: str | None = None) -> str:
        namespace = os.environ.get("CARBENCH_NAMESPACE")
        options = [f"--namespace={namespace}"] if namespace else []
        return call("kubectl", *words, *options, stdin=stdin)


if __name__ == "__main__":
    described = read_job(str(__doc__))
    manifest(described.id, described)  # names a missing setting before the cluster is asked
    sys.exit(launch(Kubernetes(), described))
