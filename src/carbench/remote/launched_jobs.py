"""Jobs of Snakemake, each run by a launcher on a worker, for the executor `carbench`.

Its options are described in :mod:`snakemake_executor_plugin_carbench`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import signal
import subprocess
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from snakemake.benchmark import BenchmarkRecord, write_benchmark_records

from carbench.core.errors import CarbenchError
from carbench.engines.engine_jobs import snakemake_job_name
from carbench.engines.forced_jobs import is_forced
from carbench.engines.job_records import JobRecord
from carbench.engines.sync import open_workspace
from carbench.engines.workspace import Workspace
from carbench.remote.bucket import Bucket
from carbench.remote.requests import make_request, publish_request
from carbench.remote.results import take_result

# Jobs that wait for their launchers at the same time, each in a thread.
MAX_THREADS = 1000
ID_LENGTH = 63  # of a DNS label, which Kubernetes and Google Batch require


class LaunchedJobs:
    """Publishes jobs, runs their launchers, and takes their results.

    Args:
        root: the repository.
        remote: the DVC remote that is shared with the workers.
        launcher: the command, in which each job's values are formatted.

    Raises:
        CarbenchError: there is no such remote.
    """

    def __init__(self, root: Path, remote: str, launcher: str) -> None:
        self._root = root
        self._launcher = launcher
        self._bucket = Bucket(root, remote, open_workspace(root).store)
        self._pool = ThreadPoolExecutor(MAX_THREADS)
        self._exchange = threading.Lock()  # DVC's remote is used by one thread at a time
        self._launchers: set[subprocess.Popen[bytes]] = set()
        self._cancelled = False

    def start(self, job: Any) -> Future[str]:
        """Start a job of Snakemake; the result is an error message, or "" if it succeeded."""
        return self._pool.submit(self._run, job, snakemake_job_name(job))

    def cancel(self) -> None:
        """Terminate all launchers, which cancel their jobs."""
        self._cancelled = True
        for process in list(self._launchers):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        self._pool.shutdown(cancel_futures=True)

    def _run(self, job: Any, name: str) -> str:
        try:
            return self._run_on_worker(job, name)
        except (CarbenchError, OSError) as error:
            return f"{name}: {error}"

    def _run_on_worker(self, job: Any, name: str) -> str:
        with self._exchange:
            workspace = open_workspace(self._root)
            spec = workspace.jobs.get(name)
            inputs = workspace.inputs_of(spec) if spec else None
            if spec is None or inputs is None:
                return f"{name}: dvc.yaml has no such job, or one of its inputs is missing"
            key = inputs.key
            again = is_forced({name, spec.stage, *spec.outs})
            if not again and self._take_result(workspace, job, name, key):
                return ""
            publish_request(self._bucket, workspace, make_request(workspace, spec, inputs))
        launcher = job.format_wildcards(self._launcher, job_id=job_id(name, key))
        command = ["carbench", "job", name, "--remote", self._bucket.name, "--inputs", key]
        status = self._launch([*shlex.split(launcher), *command, *["--again"] * again])
        with self._exchange:
            self._fetch_log(job, name, key)
            if status == 0 and self._take_result(open_workspace(self._root), job, name, key):
                return ""
        if status == 0:
            return f"{name}: its launcher succeeded, but {self._bucket.name} has no result"
        return f"{name}: its launcher ended with status {status}: `{launcher}`"

    def _take_result(self, workspace: Workspace, job: Any, name: str, key: str) -> bool:
        """Take a job's result from the bucket; return whether it has one."""
        record = self._bucket.read_record(name, key)
        if not record or not take_result(workspace, self._bucket, workspace.jobs[name], record):
            return False
        _write_benchmark(job, record)
        return True

    def _launch(self, words: list[str]) -> int:
        """Run a launcher in a process group of its own; return its exit status."""
        if self._cancelled:
            return 128 + signal.SIGTERM
        environment = {**os.environ}
        environment.pop("SNAKEMAKE_PROFILE", None)  # the worker may run Snakemake, too
        process = subprocess.Popen(words, env=environment, start_new_session=True)
        self._launchers.add(process)
        try:
            return process.wait()
        finally:
            self._launchers.discard(process)

    def _fetch_log(self, job: Any, name: str, key: str) -> None:
        """Write the worker's log to the job's log file."""
        text = self._bucket.read_log(name, key)
        if text is not None and job.log:
            path = self._root / job.log[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)


def job_id(name: str, key: str) -> str:
    """Return a valid DNS label for a job: its name, as far as possible, and a hash."""
    digest = hashlib.sha256(f"{name} {key}".encode()).hexdigest()[:10]
    readable = re.sub(r"[^a-z0-9]+", "-", f"carbench-{name.lower()}")
    return f"{readable[: ID_LENGTH - 11]}-{digest}"


def _write_benchmark(job: Any, record: JobRecord) -> None:
    """Write Snakemake's benchmark file, which it expects, with the time on the worker."""
    if job.benchmark:
        path = Path(job.benchmark)
        path.parent.mkdir(parents=True, exist_ok=True)
        start, end = record.times or (0.0, 0.0)
        write_benchmark_records([BenchmarkRecord(running_time=end - start)], str(path), False)
