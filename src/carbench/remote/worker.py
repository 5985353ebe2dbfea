"""Runs a job of a request on this machine, and pushes what it made.

The job runs in a folder of its own, with a copy of this clone's code and with the files and the
params.yaml of the request: what else is in the clone cannot influence it, and several jobs of
different studies can run beside each other.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from carbench.core.atomic import write_atomic
from carbench.core.errors import CarbenchError
from carbench.engines.content_store import ContentStore
from carbench.engines.dvc_config import cache_folder
from carbench.engines.dvc_yaml import DEFINITION, PARAMS, JobSpec, one_line
from carbench.engines.input_changes import describe_changes
from carbench.engines.job_folders import scratch_folder
from carbench.engines.job_records import find_record
from carbench.engines.locks import named_lock
from carbench.engines.staleness import join_first
from carbench.engines.workspace import Workspace
from carbench.remote.bucket import Bucket
from carbench.remote.checkpoints import RemoteCheckpoints
from carbench.remote.requests import JobRequest, require_same_versions

log = logging.getLogger("carbench")

FOLDER = Path(".carbench/jobs")
# What a job runs: everything that decides about a result is among its dependencies.
CODE = ("src", "scripts", DEFINITION, ".dvcignore")
# Of the submitter, or of an engine that runs this process.
DROPPED_VARIABLES = ("CARBENCH_AGAIN", "CARBENCH_GPU_JOBS", "DVC_STAGE", "DVC_ROOT")


def run_request(
    root: Path, bucket: Bucket, request: JobRequest, again: bool, interval: float
) -> int:
    """Run a job, unless the bucket has its result; return its exit status.

    Args:
        root: the clone, whose code is used.
        bucket: of the request; gets the result.
        request: the job.
        again: run it even if the bucket has a result.
        interval: seconds between copies of the job's checkpoints to the bucket.

    Raises:
        CarbenchError: this machine has other code or versions, or the bucket lacks an input.
    """
    job, key = request.job, request.inputs.key
    require_same_versions(request)
    # Another process of this clone may run the same job; it resumes or finds the result.
    with named_lock(root, f"remote-{job}-{key}", on_wait=log.info):
        if not again and _has_result(bucket, job, key):
            return 0
        folder = root / FOLDER / f"{job}-{key[:12]}"
        store = ContentStore(cache_folder(root), links=("reflink", "hardlink", "copy"))
        _prepare(root, folder, bucket, request, store)
        spec = _require_same_inputs(folder, store, request)
        scratch = scratch_folder(folder, job) / key
        checkpoints = RemoteCheckpoints(bucket, job, key, scratch, interval)
        if not scratch.exists():
            checkpoints.restore()
        status = _run(folder, spec, again, checkpoints)
        _push_log(folder, spec, bucket, key)
        if status == 0:
            record = find_record(folder, job, key)
            assert record is not None  # written by the job before it succeeded
            if not again and _has_result(bucket, job, key):
                log.info("the other result is kept")
            else:
                bucket.push_result(record)
                log.info("%s: outputs pushed to %s", job, bucket.name)
            checkpoints.remove()
            shutil.rmtree(folder, ignore_errors=True)
        return status


def _has_result(bucket: Bucket, job: str, key: str) -> bool:
    record = bucket.read_record(job, key)
    if record is None or not bucket.pull(record.outs.values()):
        return False
    when = f", made on {record.finished}" if record.finished else ""
    log.info("%s has the result of %s%s", bucket.name, job, when)
    return True


def _prepare(
    root: Path, folder: Path, bucket: Bucket, request: JobRequest, store: ContentStore
) -> None:
    """Create the folder of a job: code, parameters, and the files that it reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CODE:
        source, target = root / name, folder / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, target, symlinks=True, ignore=ignored)
        elif source.exists():
            shutil.copy2(source, target)
    write_atomic(folder / PARAMS, request.params)
    write_atomic(
        folder / ".dvc/config",
        f"[core]\n    no_scm = true\n[cache]\n    dir = {cache_folder(root)}\n",
    )
    if not bucket.pull(request.files.values()):
        raise CarbenchError(
            bucket.name,
            found=f"incomplete or damaged inputs of {request.job}",
            expected="what the submitting machine has pushed",
            fix="remove damaged objects from the remote, then run `snakemake` there again",
        )
    workspace = Workspace(folder, store)
    for path, content in request.files.items():
        if workspace.content(path) == content:
            continue
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            shutil.rmtree(target)
        target.unlink(missing_ok=True)
        if not store.restore(content, target):
            raise CarbenchError(
                path,
                found="a damaged copy in the cache",
                expected="what the submitting machine has pushed",
                fix="run the command again, which fetches it again",
            )


def _require_same_inputs(folder: Path, store: ContentStore, request: JobRequest) -> JobSpec:
    """Return the job, whose inputs here must be those of the request.

    Raises:
        CarbenchError: names what differs.
    """
    workspace = Workspace(folder, store)
    job = workspace.jobs.get(request.job)
    inputs = workspace.inputs_of(job) if job else None
    if job and inputs and inputs.key == request.inputs.key:
        return job
    if job is None:
        found = f"no job {request.job} in {DEFINITION}"
    elif inputs is None:
        found = f"no {next(workspace.missing_inputs(job))}"
    else:
        found = join_first(list(describe_changes(request.inputs, inputs)))
    raise CarbenchError(
        request.job,
        found=f"that this clone differs: {found}",
        expected="the code of the submitting machine, as results depend on it",
        fix="check out the same commit on both",
    )


def _run(folder: Path, job: JobSpec, again: bool, checkpoints: RemoteCheckpoints) -> int:
    """Run a job's command; return its exit status."""
    words = [sys.executable, *shlex.split(one_line(job.command))[1:], *["--again"] * again]
    environment = {key: os.environ[key] for key in os.environ if key not in DROPPED_VARIABLES}
    with subprocess.Popen(words, cwd=folder, env=environment) as process:
        try:
            while True:
                try:
                    status = process.wait(checkpoints.interval)
                    break
                except subprocess.TimeoutExpired:
                    checkpoints.save()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            checkpoints.save()
            raise
    if status != 0:
        checkpoints.save()
    return status if status >= 0 else 128 - status


def _push_log(folder: Path, job: JobSpec, bucket: Bucket, key: str) -> None:
    words = shlex.split(one_line(job.command))
    path = folder / words[words.index("--log") + 1] if "--log" in words else None
    if path is not None and path.exists():
        bucket.write_log(job.name, key, path.read_bytes())
