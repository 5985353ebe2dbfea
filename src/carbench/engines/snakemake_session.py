"""Synchronises the engines in Snakemake's main process: before it plans, and after its run."""

from __future__ import annotations

import atexit
import logging
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from carbench.core.errors import CarbenchError
from carbench.engines.dvc_internals import results_write_lock
from carbench.engines.external_jobs import matching_jobs, record_external_jobs
from carbench.engines.locks import named_lock
from carbench.engines.snakemake_internals import (
    SnakemakeMetadata,
    SnakemakeOptions,
    snakemake_options,
)
from carbench.engines.staleness import join_first, stale_reason
from carbench.engines.sync import (
    job_statuses,
    open_cleaned_workspace,
    open_workspace,
    sync_to_dvc,
    sync_to_snakemake,
)
from carbench.engines.workspace import JobStatus, Workspace

log = logging.getLogger("carbench")


class SnakemakeSession:
    """One main process of Snakemake.

    Args:
        root: the repository.
        workflow: Snakemake's workflow object, while its Snakefile is read.
        argv: Snakemake's command line. A read-only run takes no locks and does not write dvc.lock.

    Raises:
        CarbenchError: another run is active, or an option hides from Snakemake that a result is
            stale.
    """

    def __init__(self, root: Path, workflow: Any, argv: list[str] | None) -> None:
        self._root = root
        self._locks = ExitStack()
        self._unverified: dict[str, bool] = {}
        self.options = snakemake_options(argv)
        reject_unsafe_options(self.options, workflow)
        if not self.options.read_only:
            self._lock()
        self._sync()

    def verify_metadata(self, persistence: Any) -> None:
        """Check one up-to-date and one stale metadata record as Snakemake reads them.

        Args:
            persistence: Snakemake's persistence object, which exists once Snakemake plans.

        Raises:
            CarbenchError: Snakemake does not read what was written.
        """
        for output, up_to_date in self._unverified.items():
            SnakemakeMetadata.verify(persistence, output, up_to_date)
        self._unverified = {}

    def finish(self, workflow: Any, succeeded: bool) -> None:
        """Update dvc.lock after the run, and check its results against the current inputs.

        Args:
            workflow: Snakemake's workflow object after the run.
            succeeded: whether no job failed.

        Raises:
            CarbenchError: no job failed, but a result does not match the current parameters, code
                and data: they were edited during the run.
        """
        workspace, dag = open_workspace(self._root), workflow.dag
        finished = [] if workflow.touch else [job for job in dag.jobs if dag.finished(job)]
        if record_external_jobs(workspace, self._before, finished):
            workspace = open_workspace(self._root)
        statuses = job_statuses(workspace)
        try:
            sync_to_dvc(workspace, statuses)
        except CarbenchError as error:
            log.error("%s", error)  # the run has ended; the next one updates dvc.lock
        if succeeded:
            reject_outdated_results(workspace, statuses, dag)

    def _sync(self) -> None:
        """Write Snakemake's metadata and, unless the run is read-only, dvc.lock."""
        open_ = open_workspace if self.options.read_only else open_cleaned_workspace
        self._before = workspace = open_(self._root)
        statuses = job_statuses(workspace)
        sync_to_snakemake(workspace, statuses)
        for status in statuses.values():
            output = status.job.outs[0]
            if status.up_to_date not in self._unverified.values() and workspace.content(output):
                self._unverified[output] = status.up_to_date
        if not self.options.read_only:
            sync_to_dvc(workspace, statuses)

    def _lock(self) -> None:
        """Exclude other runs of Snakemake and DVC in this folder."""
        try:
            self._locks.enter_context(named_lock(self._root, "snakemake", on_wait=None))
            SnakemakeMetadata(self._root).unlock()
            self._locks.enter_context(results_write_lock(self._root, " ".join(sys.argv)))
        except BlockingIOError as error:
            raise CarbenchError(
                self._root / "results",
                found=f"another active run: {error.strerror}",
                expected="one run at a time",
                fix="wait for it, or end it",
            ) from None
        # Snakemake has no hook for the end of a run that had nothing to do.
        atexit.register(self._locks.close)


def reject_outdated_results(
    workspace: Workspace, statuses: Mapping[str, JobStatus], dag: Any
) -> None:
    """Raise an error if results that Snakemake counts as done are stale.

    Raises:
        CarbenchError: lists them with the reasons.
    """
    done = [job for job in dag.jobs if dag.finished(job) or not dag.needrun(job)]
    outdated = [
        f"{job.name} ({stale_reason(workspace, statuses[job.name])})"
        for job in matching_jobs(workspace, done)
        if not statuses[job.name].up_to_date
    ]
    if outdated:
        raise CarbenchError(
            workspace.root / "results",
            found="results that do not match the current parameters, code and data: "
            f"{join_first(outdated)}",
            expected="no edits during a run",
            fix="run `snakemake` again",
        )


def reject_unsafe_options(options: SnakemakeOptions, workflow: Any) -> None:
    """Raise an error for options that hide from Snakemake that a result is stale.

    Args:
        options: of the command line and its profiles.
        workflow: Snakemake's workflow object, while its Snakefile is read.

    Raises:
        CarbenchError: names the option and the alternative.
    """
    settings, storage = workflow.workflow_settings, workflow.storage_settings
    if options.triggers is not None and "params" not in options.triggers:
        raise _option_error(
            f"--rerun-triggers {' '.join(sorted(options.triggers))}",
            "`params` among them, by which carbench marks results as stale",
            "leave the option out, or add params to it",
        )
    if (backend := settings.persistence_backend.item_to_choice()) != "file":
        raise _option_error(
            f"--persistence-backend {backend}",
            "file, where carbench writes which results are up to date",
            "leave the option out",
        )
    if settings.cache is not None:
        raise _option_error(
            "--cache",
            "no second cache: results are restored from DVC's, after their inputs are compared",
            "leave the option out",
        )
    if settings.consider_ancient:
        raise _option_error(
            f"--consider-ancient {' '.join(settings.consider_ancient)}",
            "no ignored inputs",
            "leave the option out: inputs are compared by content, not by modification time",
        )
    if storage is not None and storage.default_storage_provider is not None:
        raise _option_error(
            f"--default-storage-provider {storage.default_storage_provider}",
            "results in results/, where they can be compared",
            "leave the option out, and share results with `dvc push`",
        )


def reject_untargeted_subprocess(argv: list[str]) -> None:
    """Raise an error if a user passes ``--mode subprocess`` or ``remote``, meant for jobs only.

    Args:
        argv: the command line of a process of Snakemake that is not the main one.

    Raises:
        CarbenchError: it has no job that a main process has planned.
    """
    if not any(word.startswith("--target-jobs") for word in argv):
        raise _option_error(
            "--mode",
            "the main process, which checks the results before it plans",
            "leave the option out",
        )


def _option_error(found: str, expected: str, fix: str) -> CarbenchError:
    return CarbenchError("snakemake", found=found, expected=expected, fix=fix)
