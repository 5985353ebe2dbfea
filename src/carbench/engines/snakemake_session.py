"""One run of Snakemake, from reading the Snakefile to its end."""

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
        workflow: Snakemake's workflow, while its Snakefile is read.
        argv: Snakemake's command line; what only looks neither waits nor writes dvc.lock.

    Raises:
        CarbenchError: another run is at work, or an option switches off what tells Snakemake that
            a result is stale.
    """

    def __init__(self, root: Path, workflow: Any, argv: list[str]) -> None:
        self._root = root
        self._stack = ExitStack()
        self._unconfirmed: dict[str, bool] = {}
        self.options = snakemake_options(argv)
        reject_unsafe_options(self.options, workflow)
        if not self.options.read_only:
            self._occupy()
        self._begin()

    def confirm(self, persistence: Any) -> None:
        """Hold one record of each kind against what Snakemake itself reads, before it plans.

        Args:
            persistence: of the workflow, which exists from the moment that Snakemake plans.

        Raises:
            CarbenchError: Snakemake does not see what was written for it.
        """
        for output, current in self._unconfirmed.items():
            SnakemakeMetadata.verify(persistence, output, current)
        self._unconfirmed = {}

    def finish(self, workflow: Any, succeeded: bool) -> None:
        """Tell DVC what the run has made, and hold its results against today's parameters and code.

        Args:
            workflow: Snakemake's, after the run.
            succeeded: whether none of them failed.

        Raises:
            CarbenchError: none failed, but a result is not what its job would make today: something
                was edited during the run.
        """
        workspace, dag = open_workspace(self._root), workflow.dag
        finished = [] if workflow.touch else [job for job in dag.jobs if dag.finished(job)]
        if record_external_jobs(workspace, self._before, finished):
            workspace = open_workspace(self._root)
        statuses = job_statuses(workspace)
        try:
            sync_to_dvc(workspace, statuses)
        except CarbenchError as error:
            log.error("%s", error)  # the run is done, and the next one tells DVC
        if succeeded:
            reject_outdated_results(workspace, statuses, dag)

    def _begin(self) -> None:
        """Tell Snakemake what is current; unless it only looks, tell DVC too."""
        workspace = (
            open_workspace(self._root)
            if self.options.read_only
            else open_cleaned_workspace(self._root)
        )
        self._before = workspace
        statuses = job_statuses(workspace)
        sync_to_snakemake(workspace, statuses)
        for status in statuses.values():
            output = status.job.outs[0]
            if status.up_to_date not in self._unconfirmed.values() and workspace.content(output):
                self._unconfirmed[output] = status.up_to_date
        if not self.options.read_only:
            sync_to_dvc(workspace, statuses)

    def _occupy(self) -> None:
        """Be the only run in this folder, and say so to DVC."""
        try:
            self._stack.enter_context(named_lock(self._root, "snakemake", waiting=None))
            SnakemakeMetadata(self._root).unlock()
            self._stack.enter_context(results_write_lock(self._root, " ".join(sys.argv)))
        except BlockingIOError as error:
            raise CarbenchError(
                self._root / "results",
                found=f"another run at work: {error.strerror}",
                expected="one run at a time, or both would make the same results",
                fix="wait for it, or end it",
            ) from None
        # Snakemake has no hook for the end of a run that had nothing to do.
        atexit.register(self._stack.close)


def reject_outdated_results(
    workspace: Workspace, statuses: Mapping[str, JobStatus], dag: Any
) -> None:
    """Refuse results that Snakemake counts as done and that are not of today's parameters and code.

    Raises:
        CarbenchError: names them, and why they are not.
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
            found=f"results that are not of today's parameters, code and data: {join_first(outdated)}",
            expected="nothing that changes during a run",
            fix="run `snakemake` again",
        )


def reject_unsafe_options(options: SnakemakeOptions, workflow: Any) -> None:
    """Refuse options that hide from Snakemake that a result is stale.

    Args:
        options: of the command line and its profiles.
        workflow: Snakemake's workflow, while its Snakefile is read.

    Raises:
        CarbenchError: names the option and what to do without it.
    """
    settings, storage = workflow.workflow_settings, workflow.storage_settings
    if options.triggers is not None and "params" not in options.triggers:
        raise _blind(
            f"--rerun-triggers {' '.join(sorted(options.triggers))}",
            "`params` among them, by which Snakemake is told that a result is stale",
            "leave the option out, or add params to it",
        )
    if (backend := settings.persistence_backend.item_to_choice()) != "file":
        raise _blind(
            f"--persistence-backend {backend}",
            "file, where carbench writes what is current",
            "leave the option out",
        )
    if settings.cache is not None:
        raise _blind(
            "--cache",
            "no second cache: results come back from DVC's, and only if they are up_to_date",
            "leave the option out",
        )
    if settings.consider_ancient:
        raise _blind(
            f"--consider-ancient {' '.join(settings.consider_ancient)}",
            "no input that Snakemake is told to overlook",
            "leave the option out: what is current is decided by content, not by times",
        )
    if storage is not None and storage.default_storage_provider is not None:
        raise _blind(
            f"--default-storage-provider {storage.default_storage_provider}",
            "results in results/, where they can be compared",
            "leave the option out, and share results with `dvc push`",
        )


def reject_untargeted_subprocess(argv: list[str]) -> None:
    """Refuse ``--mode subprocess`` and ``remote`` of a person: only Snakemake's own jobs use them.

    Args:
        argv: the command line of a process of Snakemake that is not the main one.

    Raises:
        CarbenchError: it names no job that a main process has planned.
    """
    if not any(word.startswith("--target-jobs") for word in argv):
        raise _blind(
            "--mode",
            "the main process, which compares what lies in results/ before it plans",
            "leave the option out",
        )


def _blind(found: str, expected: str, fix: str) -> CarbenchError:
    return CarbenchError("snakemake", found=found, expected=expected, fix=fix)
