"""One run of a job: locking, restoring cached outputs, and recording new ones.

    with start_job_run(argv, on_wait) as job:
        if not job.restore_outputs():
            ... write the outputs to a staging folder ...
            job.store_outputs(staging, folder)

A command that is not exactly the command of a job in dvc.yaml, run in the folder of dvc.yaml, is
not treated as a job: it runs without locks and records.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from carbench.core.atomic import move_into_place, staging_folder
from carbench.core.errors import CarbenchError
from carbench.engines.code_fingerprint import is_code
from carbench.engines.dvc_config import open_content_store
from carbench.engines.dvc_internals import dvc_repo_lock
from carbench.engines.dvc_lock_file import write_lock_file
from carbench.engines.dvc_yaml import DEFINITION, JobSpec, one_line
from carbench.engines.forced_jobs import is_forced
from carbench.engines.hashing import HashCache, folder_content
from carbench.engines.input_changes import describe_changes
from carbench.engines.job_folders import live_folder, profile_folder, scratch_folder
from carbench.engines.job_records import JobInputs, JobRecord, find_record, save_record
from carbench.engines.locks import named_lock
from carbench.engines.staleness import (
    all_upstream_jobs,
    direct_upstream,
    join_first,
    stale_reason,
)
from carbench.engines.workspace import Workspace

log = logging.getLogger("carbench")

# Maximum time from the start of reading a script to the import of this module.
STARTUP_NS = 500_000_000
ATTEMPTS_LOG = "attempts.log"


class JobRun:
    """One run of a job; see :func:`start_job_run`."""

    def __init__(self, root: Path, job: JobSpec, workspace: Workspace) -> None:
        self._root = root
        self._job = job
        self._store = workspace.store
        self._hashes = workspace.hashes
        self._inputs = _inputs_of(workspace, job)
        self._deps = workspace.contents(job.deps)
        self._record: JobRecord | None = None
        self._start = time.time()

    @property
    def name(self) -> str:
        """The name of the job, such as ``train@resnet-0``."""
        return self._job.name

    @property
    def attempts_log(self) -> Path:
        """The log of all attempts with the same inputs, kept until one of them succeeds."""
        return self.scratch / ATTEMPTS_LOG

    @property
    def scratch(self) -> Path:
        """A folder for checkpoints, from which a killed run with the same inputs resumes."""
        return scratch_folder(self._root, self._job.name) / self._inputs.key

    @property
    def live(self) -> Path:
        """A folder for files that show the progress of the job with these inputs; it is kept."""
        return live_folder(self._root, self.name, self._inputs.key)

    @property
    def profile(self) -> Path:
        """A folder for the profile of the job; it is kept."""
        return profile_folder(self._root, self.name)

    def restore_outputs(self, force: bool) -> bool:
        """Restore the outputs from the store if the job has already run with the same inputs.

        Args:
            force: run the job in any case.

        Returns:
            Whether the outputs were restored.
        """
        record = find_record(self._root, self._job.name, self._inputs.key, self._store)
        if record is None or set(record.outs) != set(self._job.outs):
            return False
        if force or is_forced({self._job.name, self._job.stage, *self._job.outs}):
            return False
        if not self.restore(record):
            return False
        when = f" on {record.finished}" if record.finished else ""
        log.info("outputs restored from the cache (the job ran with the same inputs%s)", when)
        return True

    def restore(self, record: JobRecord) -> bool:
        """Restore the outputs of a record of this job with the same inputs from the store.

        Returns:
            Whether the store has all of them.
        """
        with ExitStack() as stack:
            parents = {(self._root / path).parent for path in record.outs}
            staging = {
                parent: stack.enter_context(staging_folder(parent, self.name)) for parent in parents
            }
            restored: list[tuple[Path, Path]] = []
            for path, content in record.outs.items():
                if self._hashes.content(path) == content:
                    continue
                target = self._root / path
                source = staging[target.parent] / target.name
                if not self._store.restore(
                    content, source, force_copy=path not in self._job.cached
                ):
                    return False
                restored.append((source, target))
            for source, target in restored:
                move_into_place(source, target)
        self._record = record
        return True

    def store_outputs(self, staging: Path, folder: Path) -> None:
        """Record and store the outputs in ``staging`` before they are moved to ``folder``.

        Raises:
            CarbenchError: an input of the job changed while it ran.
        """
        outputs = {(folder / path.name).as_posix(): path for path in staging.iterdir()}
        if set(outputs) != set(self._job.outs):
            difference = ", ".join(sorted(set(outputs) ^ set(self._job.outs)))
            raise RuntimeError(
                f"{self._job.name}: outputs of dvc.yaml and the script differ: {difference}"
            )
        hashes = HashCache(staging)
        outs = {}
        for name, path in outputs.items():
            listing = hashes.listing(path.name) if path.is_dir() else None
            content = hashes.content(path.name) if listing is None else folder_content(listing)
            assert content is not None
            self._store.add(path, content, listing)
            if name in self._job.cached:
                files = listing if listing is not None else [("", content)]
                self._store.replace_with_links(path, [(file, each.md5) for file, each in files])
            outs[name] = content
        self._check_inputs_unchanged()
        times = (self._start, time.time())
        self._record = JobRecord(self._job.name, self._inputs, outs, times)
        save_record(self._root, self._record, self._store)

    def finish(self) -> None:
        """Remove the checkpoints and add the job to dvc.lock.

        dvc.lock is updated after each job, so that a `dvc checkout` during a run deletes nothing.
        For the stages that DVC runs, DVC updates it itself.
        """
        shutil.rmtree(scratch_folder(self._root, self._job.name), ignore_errors=True)
        if self._record is None or "DVC_STAGE" in os.environ:
            return
        try:
            with dvc_repo_lock(self._root):
                write_lock_file(self._root, {self._job.name: (self._job, self._record, self._deps)})
        except (BlockingIOError, CarbenchError) as error:
            log.info("dvc.lock is updated at the end of the run: %s", error)

    def _check_inputs_unchanged(self) -> None:
        workspace = Workspace(self._root, self._store)
        job = workspace.jobs.get(self._job.name)
        after = workspace.inputs_of(job) if job else None
        if after is not None and after.key == self._inputs.key:
            return
        changes = describe_changes(self._inputs, after) if after else iter(["an input is missing"])
        raise CarbenchError(
            self._job.name,
            found=f"that {next(changes, 'the command')} while it ran",
            expected="inputs that do not change while a job runs",
            fix="run again; nothing was written",
        )


@contextmanager
def start_job_run(argv: list[str], on_wait: Callable[[Path], None]) -> Iterator[JobRun | None]:
    """Yield the run of the job that a command line belongs to, holding its lock; None if no job.

    Args:
        argv: the command line, without Python.
        on_wait: called if another process runs the job with the same inputs, with the path of its
            log of all attempts, before waiting for it.
    """
    root = Path()
    command = one_line(" ".join(["python", *argv]))
    if not (root / DEFINITION).is_file() or not command.startswith("python scripts/"):
        yield None
        return
    workspace = Workspace(root, open_content_store(root))
    job = next((job for job in workspace.jobs.values() if one_line(job.command) == command), None)
    if job is None:
        yield None
        return

    def report_waiting(message: str) -> None:
        log.info("%s", message)
        if inputs := workspace.inputs_of(job):
            on_wait(scratch_folder(root, job.name) / inputs.key / ATTEMPTS_LOG)

    with named_lock(root, job.name, on_wait=report_waiting):
        _restart_if_code_changed(root, job)
        # Read again: another process may have run the job while this one waited for the lock.
        workspace = Workspace(root, workspace.store)
        remove_orphaned_outputs(workspace, job.deps)
        if "DVC_STAGE" in os.environ:
            _warn_of_outdated_inputs(workspace, job)
        run = JobRun(root, job, workspace)
        workspace.save()
        yield run
        run.finish()


def remove_orphaned_outputs(workspace: Workspace, folders: Iterable[str]) -> bool:
    """Remove outputs of jobs that no longer exist from folders, if the store has them.

    Returns:
        Whether there were any.
    """
    orphans = [path for folder in folders for path in list(workspace.orphaned_outputs(folder))]
    for path in dict.fromkeys(orphans):
        _remove_output(workspace.root, path)
    return bool(orphans)


def _remove_output(root: Path, path: str) -> None:
    """Remove a file and the folders that become empty."""
    (root / path).unlink(missing_ok=True)
    for parent in (root / path).parents:
        if parent == root / "results":
            break
        try:
            parent.rmdir()
        except OSError:
            break
    log.info(
        "%s removed from results/: its job is no longer in params.yaml; it is still in the cache",
        path,
    )


def _warn_of_outdated_inputs(workspace: Workspace, job: JobSpec) -> None:
    """Warn of edits made since an earlier stage of this `dvc repro`, which DVC does not notice."""
    names = all_upstream_jobs(job.name, direct_upstream(workspace.jobs))
    statuses = {name: workspace.job_status(workspace.jobs[name]) for name in names}
    outdated = [
        f"{name} ({stale_reason(workspace, status)})"
        for name, status in statuses.items()
        if not status.up_to_date
    ]
    if outdated:
        log.warning(
            "reads results that do not match the current parameters and code: %s; "
            "run `dvc repro` again to update them",
            join_first(outdated),
        )


def _inputs_of(workspace: Workspace, job: JobSpec) -> JobInputs:
    inputs = workspace.inputs_of(job)
    if inputs is None:
        raise CarbenchError(
            next(workspace.missing_inputs(job)),
            found="nothing",
            expected=f"an input of {job.name}",
            fix="run `snakemake` or `dvc repro`, which run the stages in order",
        )
    return inputs


def _restart_if_code_changed(root: Path, job: JobSpec) -> None:
    """Restart this process if code was edited while it was imported, as either version may run."""
    code = [root / path for path in job.deps if is_code(path)]
    files = [file for path in code for file in (path.rglob("*.py") if path.is_dir() else [path])]
    newest = max((file.stat().st_ctime_ns for file in files), default=0)
    now_ns = time.time_ns()
    if _IMPORTED_NS - STARTUP_NS < newest <= now_ns:
        time.sleep(max(0.0, (newest + STARTUP_NS - now_ns) / 1e9))
        os.execv(sys.executable, [sys.executable, *sys.argv])


_IMPORTED_NS = time.time_ns()
