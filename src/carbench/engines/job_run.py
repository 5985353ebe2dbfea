"""What happens around a job of the study: one maker at a time, nothing twice, nothing half.

    with start_job_run(argv) as job:
        if not job.restore_outputs():
            ... make the outputs in a draft folder ...
            job.store_outputs(draft, folder)

A command that is not word for word that of a job in dvc.yaml, run where dvc.yaml lies, is nobody's
job: it is run and nothing is recorded.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
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
from carbench.engines.job_records import JobInputs, JobRecord, find_record, save_record
from carbench.engines.locks import named_lock
from carbench.engines.staleness import all_upstream_jobs, direct_upstream, join_first, stale_reason
from carbench.engines.workspace import Workspace

log = logging.getLogger("carbench")

# A script is read this long, at most, before it gets here.
START_NS = 500_000_000


class JobRun:
    """One run of one job; see :func:`start_job_run`."""

    def __init__(self, root: Path, job: JobSpec, workspace: Workspace) -> None:
        self._root = root
        self._job = job
        self._store = workspace.store
        self._hashes = workspace.hashes
        self._wanted = _inputs_of(workspace, job)
        self._deps = {path: found for path in job.deps if (found := workspace.content(path))}
        self._record: JobRecord | None = None
        self._began = time.time()

    @property
    def scratch(self) -> Path:
        """A folder for what the job needs to go on after a kill: of this job, from the same."""
        return self._scratch / self._wanted.key

    def restore_outputs(self, again: bool) -> bool:
        """Put the outputs in place if they were made before from the same; say so in the log."""
        record = find_record(self._root, self._job.name, self._wanted.key, self._store)
        if record is None or set(record.outs) != set(self._job.outs):
            return False
        if again or is_forced({self._job.name, self._job.stage, *self._job.outs}):
            return False
        with ExitStack() as stack:
            parents = {(self._root / path).parent for path in record.outs}
            drafts = {parent: stack.enter_context(staging_folder(parent)) for parent in parents}
            brought: list[tuple[Path, Path]] = []
            for path, content in record.outs.items():
                if self._hashes.content(path) == content:
                    continue
                target = self._root / path
                draft = drafts[target.parent] / target.name
                if not self._store.restore(content, draft, force_copy=path not in self._job.cached):
                    return False
                brought.append((draft, target))
            for draft, target in brought:
                move_into_place(draft, target)
        self._record = record
        when = f"on {record.made}" if record.made else "before"
        log.info("made %s from the same; brought back, not made again", when)
        return True

    def store_outputs(self, draft: Path, folder: Path) -> None:
        """Record and keep what was made in ``draft``, before it takes its place in ``folder``.

        Raises:
            CarbenchError: something that the job depends on changed while it ran.
        """
        made = {(folder / each.name).as_posix(): each for each in draft.iterdir()}
        if set(made) != set(self._job.outs):
            odd = ", ".join(sorted(set(made) ^ set(self._job.outs)))
            raise RuntimeError(f"{self._job.name}: dvc.yaml and the stage differ about {odd}")
        hashes = HashCache(draft)
        outs = {}
        for path, each in made.items():
            listing = hashes.listing(each.name) if each.is_dir() else None
            content = hashes.content(each.name) if listing is None else folder_content(listing)
            assert content is not None
            self._store.add(each, content, listing)
            if path in self._job.cached:
                files = listing if listing is not None else [("", content)]
                self._store.replace_with_links(each, [(name, found.md5) for name, found in files])
            outs[path] = content
        self._refuse_changes()
        times = (self._began, time.time())
        self._record = JobRecord(self._job.name, self._wanted, outs, times)
        save_record(self._root, self._record, self._store)

    def done(self) -> None:
        """Put the job into dvc.lock, and forget what a killed run would have needed.

        Written at once, so that a `dvc checkout` during a run takes nothing away that was made.
        DVC does it by itself for the stages that it runs.
        """
        shutil.rmtree(self._scratch, ignore_errors=True)
        if self._record is None or "DVC_STAGE" in os.environ:
            return
        try:
            with dvc_repo_lock(self._root):
                write_lock_file(self._root, {self._job.name: (self._job, self._record, self._deps)})
        except (BlockingIOError, CarbenchError) as error:
            log.info("dvc.lock is left to the end of the run: %s", error)

    @property
    def _scratch(self) -> Path:
        return self._root / ".carbench/scratch" / self._job.name

    def _refuse_changes(self) -> None:
        workspace = Workspace(self._root, self._store)
        job = workspace.jobs.get(self._job.name)
        after = workspace.inputs_of(job) if job else None
        if after is not None and after.key == self._wanted.key:
            return
        changed = (
            next(describe_changes(self._wanted, after), "the command")
            if after
            else "an input is gone"
        )
        raise CarbenchError(
            self._job.name,
            found=f"that {changed} while it ran",
            expected="one state from start to end",
            fix="run again; nothing was written",
        )


@contextmanager
def start_job_run(argv: list[str]) -> Iterator[JobRun | None]:
    """Yield the job that a command line is, alone at work on it; None if it is nobody's job."""
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
    with named_lock(root, job.name, waiting=log.info):
        _read_code_anew(root, job)
        # Looked at again: while this one waited, another may have made what it needs.
        workspace = Workspace(root, workspace.store)
        remove_orphaned_outputs(workspace, job.deps)
        if "DVC_STAGE" in os.environ:
            _warn_of_outdated_inputs(workspace, job)
        run = JobRun(root, job, workspace)
        workspace.save()
        yield run
        run.done()


def remove_orphaned_outputs(workspace: Workspace, folders: Iterable[str]) -> bool:
    """Remove from folders what jobs of the past left and the store keeps; say whether any was."""
    found = [stray for folder in folders for stray in list(workspace.orphaned_outputs(folder))]
    for path in dict.fromkeys(found):
        _remove_stray(workspace.root, path)
    return bool(found)


def _remove_stray(root: Path, path: str) -> None:
    """Remove a file, and the folders that this empties."""
    (root / path).unlink(missing_ok=True)
    for parent in (root / path).parents:
        if parent == root / "results":
            break
        try:
            parent.rmdir()
        except OSError:
            break
    log.info("%s left results/: params.yaml no longer names it; it comes back from the cache", path)


def _warn_of_outdated_inputs(workspace: Workspace, job: JobSpec) -> None:
    """Say what was edited since an earlier stage of this `dvc repro`, which does not look again."""
    upstream = direct_upstream(workspace.jobs)
    statuses = {
        name: workspace.job_status(workspace.jobs[name])
        for name in all_upstream_jobs(job.name, upstream)
    }
    outdated = [
        f"{name} ({stale_reason(workspace, each)})"
        for name, each in statuses.items()
        if not each.up_to_date
    ]
    if outdated:
        log.warning(
            "reads results that are not of today's parameters and code: %s; `dvc repro` again "
            "makes them",
            join_first(outdated),
        )


def _inputs_of(workspace: Workspace, job: JobSpec) -> JobInputs:
    wanted = workspace.inputs_of(job)
    if wanted is None:
        raise CarbenchError(
            next(workspace.missing(job)),
            found="nothing",
            expected=f"what {job.name} reads",
            fix="run `snakemake` or `dvc repro`, which run the stages in order",
        )
    return wanted


def _read_code_anew(root: Path, job: JobSpec) -> None:
    """Start again if code was edited while it was being loaded: nobody could say what runs."""
    code = [root / path for path in job.deps if is_code(path)]
    files = [file for path in code for file in (path.rglob("*.py") if path.is_dir() else [path])]
    newest = max((file.stat().st_ctime_ns for file in files), default=0)
    now_ns = time.time_ns()
    if _LOADED_NS - START_NS < newest <= now_ns:
        time.sleep(max(0.0, (newest + START_NS - now_ns) / 1e9))
        os.execv(sys.executable, [sys.executable, *sys.argv])


_LOADED_NS = time.time_ns()
