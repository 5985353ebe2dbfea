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

from collections.abc import AsyncGenerator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase


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
    """Passes Snakemake's jobs to :mod:`carbench.remote.launched_jobs`."""

    def __post_init__(self) -> None:
        # Snakemake imports all executors before it reads the Snakefile, which makes this clone's
        # code the one to import.
        from carbench.core.errors import CarbenchError
        from carbench.remote.launched_jobs import LaunchedJobs

        settings = self.workflow.executor_settings
        try:
            self._jobs = LaunchedJobs(Path(), settings.remote, settings.launcher)
        except CarbenchError as error:
            raise WorkflowError(str(error)) from None

    def run_job(self, job: Any) -> None:
        """Start a job."""
        if job.is_group():
            raise WorkflowError("the executor carbench runs single jobs; leave out `--groups`")
        future = self._jobs.start(job)
        self.report_job_submission(SubmittedJobInfo(job, aux={"future": future}))

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report the jobs that have ended; yield the others."""
        for info in active_jobs:
            future: Future[str] = info.aux["future"]
            if not future.done():
                yield info
            elif message := future.result():
                self.report_job_error(info, msg=f"{message}\n")
            else:
                self.report_job_success(info)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel all jobs."""
        self._jobs.cancel()
