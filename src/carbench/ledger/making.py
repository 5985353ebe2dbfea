"""What happens around a job of the study: one maker at a time, nothing twice, nothing half.

    with making(argv) as job:
        if not job.bring_back():
            ... make the outputs in a draft folder ...
            job.hand_in(draft, folder)

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

from carbench.drafts import draft_in, replace
from carbench.errors import CarbenchError
from carbench.interop.cache import cache_folder
from carbench.interop.forced import is_forced
from carbench.ledger.definition import DEFINITION, JobSpec
from carbench.ledger.differences import differences
from carbench.ledger.hashing import Hashes, content_of
from carbench.ledger.locks import held
from carbench.ledger.receipts import Ingredients, Receipt, find_receipt, now, save_receipt
from carbench.ledger.store import Store
from carbench.ledger.workspace import Workspace

log = logging.getLogger("carbench")

# A script is read this long, at most, before it gets here.
START_NS = 500_000_000


class Making:
    """One run of one job; see :func:`making`."""

    def __init__(self, root: Path, job: JobSpec, workspace: Workspace) -> None:
        self._root = root
        self._job = job
        self._store = workspace.store
        self._hashes = workspace.hashes
        self._wanted = _ingredients(workspace, job)

    @property
    def scratch(self) -> Path:
        """A folder for what the job needs to go on after a kill: of this job, from the same."""
        return self._scratch / self._wanted.key

    def bring_back(self, again: bool) -> bool:
        """Put the outputs in place if they were made before from the same; say so in the log."""
        receipt = find_receipt(self._root, self._job.name, self._wanted.key)
        if receipt is None or set(receipt.outs) != set(self._job.outs):
            return False
        if again or is_forced({self._job.name, self._job.stage, *self._job.outs}):
            return False
        with ExitStack() as stack:
            parents = {(self._root / path).parent for path in receipt.outs}
            drafts = {parent: stack.enter_context(draft_in(parent)) for parent in parents}
            brought: list[tuple[Path, Path]] = []
            for path, content in receipt.outs.items():
                if self._hashes.of(path) == content:
                    continue
                target = self._root / path
                draft = drafts[target.parent] / target.name
                if not self._store.bring(content, draft):
                    return False
                brought.append((draft, target))
            for draft, target in brought:
                replace(draft, target)
        when = f"on {receipt.made}" if receipt.made else "before"
        log.info("made %s from the same; brought back, not made again", when)
        return True

    def hand_in(self, draft: Path, folder: Path) -> None:
        """Record and keep what was made in ``draft``, before it takes its place in ``folder``.

        Raises:
            CarbenchError: something that the job depends on changed while it ran.
        """
        made = {(folder / each.name).as_posix(): each for each in draft.iterdir()}
        if set(made) != set(self._job.outs):
            odd = ", ".join(sorted(set(made) ^ set(self._job.outs)))
            raise RuntimeError(f"{self._job.name}: dvc.yaml and the stage differ about {odd}")
        hashes = Hashes(draft)
        outs = {}
        for path, each in made.items():
            listing = hashes.listing(each.name) if each.is_dir() else None
            content = hashes.of(each.name) if listing is None else content_of(listing)
            assert content is not None
            self._store.put(each, content, listing)
            outs[path] = content
        self._refuse_changes()
        save_receipt(self._root, Receipt(self._job.name, self._wanted, outs, now()))

    def done(self) -> None:
        """Forget what a killed run would have needed, also one from other ingredients."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def _scratch(self) -> Path:
        return self._root / ".carbench/scratch" / self._job.name

    def _refuse_changes(self) -> None:
        workspace = Workspace(self._root, self._store)
        job = workspace.jobs.get(self._job.name)
        after = workspace.ingredients(job) if job else None
        if after is not None and after.key == self._wanted.key:
            return
        changed = (
            next(differences(self._wanted, after), "the command") if after else "an input is gone"
        )
        raise CarbenchError(
            self._job.name,
            found=f"that {changed} while it ran",
            expected="one state from start to end",
            fix="run again; nothing was written",
        )


@contextmanager
def making(argv: list[str]) -> Iterator[Making | None]:
    """Yield the job that a command line is, alone at work on it; None if it is nobody's job."""
    root = Path()
    command = " ".join(["python", *argv])
    if not (root / DEFINITION).is_file() or not command.startswith("python scripts/"):
        yield None
        return
    workspace = Workspace(root, Store(cache_folder(root)))
    job = next((job for job in workspace.jobs.values() if job.command == command), None)
    if job is None:
        yield None
        return
    with held(root, job.name, waiting=log.info):
        _read_code_anew(root, job)
        # Looked at again: while this one waited, another may have made what it needs.
        workspace = Workspace(root, workspace.store)
        remove_strays(workspace, job.deps)
        run = Making(root, job, workspace)
        workspace.hashes.save()
        yield run
        run.done()


def remove_strays(workspace: Workspace, folders: Iterable[str]) -> bool:
    """Remove from folders what jobs of the past left and the store keeps; say whether any was."""
    found = [stray for folder in folders for stray in list(workspace.strays(folder))]
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


def _ingredients(workspace: Workspace, job: JobSpec) -> Ingredients:
    wanted = workspace.ingredients(job)
    if wanted is None:
        missing = next(path for path in job.deps if workspace.content(path) is None)
        raise CarbenchError(
            missing,
            found="nothing",
            expected=f"what {job.name} reads",
            fix="run `snakemake` or `dvc repro`, which run the stages in order",
        )
    return wanted


def _read_code_anew(root: Path, job: JobSpec) -> None:
    """Start again if code was edited while it was being loaded: nobody could say what runs."""
    code = [path for path in job.deps if path.startswith(("scripts/", "src/"))]
    newest = max(((root / path).stat().st_ctime_ns for path in code), default=0)
    now_ns = time.time_ns()
    if _LOADED_NS - START_NS < newest <= now_ns:
        time.sleep(max(0.0, (newest + START_NS - now_ns) / 1e9))
        os.execv(sys.executable, [sys.executable, *sys.argv])


_LOADED_NS = time.time_ns()
