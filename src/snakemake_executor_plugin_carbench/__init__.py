"""Executor of Snakemake for workers that share only a DVC remote with this machine.

    snakemake --executor carbench --carbench-remote gs://BUCKET/carbench \\
        --carbench-launcher "ssh worker cd carbench '&&'" --jobs 1

For each job, the inputs are pushed, then the launcher is run with the words of ``carbench job ...``
appended. It must run that command on a worker, wait for its end, and exit with its status: `ssh`,
`srun`, `docker run` do, as do the scripts in workflow/launchers. Finally the outputs are taken from
the remote, which makes them up to date for both engines. Scheduling, retries and resources remain
Snakemake's.

A launcher may contain what a rule's shell command may (``{threads}``, ``{resources.mem_mb}``), and
``{job_id}``: a name for the job at the scheduler, the same for each attempt with the same inputs.
"""

import hashlib
import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from snakemake.benchmark import BenchmarkRecord, write_benchmark_records
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from carbench.core.errors import CarbenchError
from carbench.engines.engine_jobs import snakemake_job_name
from carbench.engines.forced_jobs import is_forced
from carbench.engines.job_records import JobRecord
from carbench.engines.sync import open_workspace
from carbench.remote.bucket import Bucket
from carbench.remote.requests import make_request, publish_request
from carbench.remote.results import take_result

# Jobs that wait for their launchers at the same time, each in a thread.
MAX_THREADS = 1000
ID_LENGTH = 63  # of a DNS label, which Kubernetes and Google Batch require


@dataclass
class ExecutorSettings(ExecutorSettingsBase):  # type: ignore[misc]
    """Options of the command line, with the prefix ``--carbench-``.

    Snakemake reads the annotations as objects, and supports no ``str | None``.
    """

    remote: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "DVC remote that is shared with the workers: a name in .dvc/config, or a URL",
            "required": True,
        },
    )
    launcher: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "Command that runs the command appended to it on a worker, and waits for it",
            "required": True,
        },
    )


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,  # outputs are in results/ before a job is reported as finished
    job_deploy_sources=False,
    pass_default_storage_provider_args=False,
    pass_default_resources_args=False,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=1,
)


class Executor(RemoteExecutor):  # type: ignore[misc]
    """Publishes each job, waits for its launcher, and takes its result."""

    def __post_init__(self) -> None:
        settings = self.workflow.executor_settings
        self._launcher: str = settings.launcher
        try:
            self._bucket = Bucket(Path(), settings.remote, open_workspace(Path()).store)
        except CarbenchError as error:
            raise WorkflowError(str(error)) from None
        self._pool = ThreadPoolExecutor(MAX_THREADS)
        self._exchange = threading.Lock()  # DVC's remote is used by one thread at a time
        self._running: set[subprocess.Popen[bytes]] = set()
        self._cancelled = False

    def run_job(self, job: Any) -> None:
        """Start a thread that runs the job on a worker."""
        if job.is_group():
            raise WorkflowError("the executor carbench runs single jobs; leave out `group`")
        name = snakemake_job_name(job)
        future = self._pool.submit(self._run, job, name)
        self.report_job_submission(
            SubmittedJobInfo(job, external_jobid=name, aux={"future": future})
        )

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report the jobs that have ended; yield the others."""
        for info in active_jobs:
            future: Future[str] = info.aux["future"]
            if not future.done():
                yield info
            elif message := _outcome(future):
                self.report_job_error(info, msg=f"{message}\n")
            else:
                self.report_job_success(info)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Terminate all launchers, which cancel their jobs."""
        self._cancelled = True
        for process in list(self._running):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        self._pool.shutdown(cancel_futures=True)

    def _run(self, job: Any, name: str) -> str:
        """Run a job on a worker; return an error message, or "" if it succeeded."""
        with self._exchange:
            workspace = open_workspace(Path())
            spec = workspace.jobs.get(name)
            inputs = workspace.inputs_of(spec) if spec else None
            if spec is None or inputs is None:
                return f"{name}: dvc.yaml has no such job, or one of its inputs is missing"
            key = inputs.key
            again = is_forced({name, spec.stage, *spec.outs})
            record = None if again else self._bucket.read_record(name, key)
            if record and take_result(workspace, self._bucket, spec, record):
                _write_benchmark(job, record)
                return ""
            publish_request(self._bucket, workspace, make_request(workspace, spec, inputs))
        command = ["carbench", "job", name, "--remote", self._bucket.name, "--inputs", key]
        launcher = job.format_wildcards(self._launcher, job_id=job_id(name, key))
        status = self._launch([*shlex.split(launcher), *command, *["--again"] * again])
        with self._exchange:
            self._fetch_log(job, name, key)
            workspace = open_workspace(Path())
            record = self._bucket.read_record(name, key) if status == 0 else None
            if record and take_result(workspace, self._bucket, workspace.jobs[name], record):
                _write_benchmark(job, record)
                return ""
        if status == 0:
            return f"{name}: its launcher succeeded, but {self._bucket.name} has no result"
        return f"{name}: its launcher ended with status {status}: `{launcher}`"

    def _launch(self, words: list[str]) -> int:
        """Run a launcher in a process group of its own; return its exit status."""
        if self._cancelled:
            return 130
        environment = {**os.environ}
        environment.pop("SNAKEMAKE_PROFILE", None)
        process = subprocess.Popen(words, env=environment, start_new_session=True)
        self._running.add(process)
        try:
            return process.wait()
        finally:
            self._running.discard(process)

    def _fetch_log(self, job: Any, name: str, key: str) -> None:
        """Write the worker's log to the job's log file."""
        text = self._bucket.read_log(name, key)
        if text is not None and job.log:
            path = Path(job.log[0])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)


def job_id(name: str, key: str) -> str:
    """Return a valid DNS label for a job: its name, as far as possible, and a hash."""
    digest = hashlib.sha256(f"{name} {key}".encode()).hexdigest()[:10]
    readable = re.sub(r"[^a-z0-9]+", "-", f"carbench-{name.lower()}")
    return f"{readable[: ID_LENGTH - 11]}-{digest}"


def _outcome(future: Future[str]) -> str:
    """Return the error message of a job that has ended, or ""."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, CarbenchError | OSError):
        return str(error)
    raise error


def _write_benchmark(job: Any, record: JobRecord) -> None:
    """Write Snakemake's benchmark file, which it expects, with the time on the worker."""
    if job.benchmark and record.times:
        path = Path(job.benchmark)
        path.parent.mkdir(parents=True, exist_ok=True)
        seconds = record.times[1] - record.times[0]
        write_benchmark_records([BenchmarkRecord(running_time=seconds)], str(path), False)
