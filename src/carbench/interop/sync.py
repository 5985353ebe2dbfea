"""One result, either engine: what one engine has made becomes current to the other, by proof alone.

Snakemake's records and DVC's lock file are both written from what :mod:`carbench.ledger` can
prove: to Snakemake before it plans, to DVC after a run. A job that is not proven is made stale to
Snakemake and left as it is to DVC, which looks by itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from carbench.errors import CarbenchError
from carbench.interop.cache import cache_folder
from carbench.interop.internals import Records, dvc_lock, writing_results
from carbench.ledger.definition import JobSpec
from carbench.ledger.hashing import Content
from carbench.ledger.lockfile import write_lock
from carbench.ledger.locks import held
from carbench.ledger.making import remove_strays
from carbench.ledger.receipts import find_receipt, save_receipt
from carbench.ledger.store import Store
from carbench.ledger.whole import write_whole
from carbench.ledger.why import reason
from carbench.ledger.workspace import Proof, Workspace

log = logging.getLogger("carbench")

# DVC reads times as floating point seconds, which cannot tell nanoseconds apart.
DVC_TICK_NS = 1_000_000

STAMPS = Path(".carbench/snakemake.json")
# Options of snakemake that look and change nothing.
LOOKING = {
    *("-n", "--dry-run", "--dryrun", "--lint", "--list", "-l", "--list-rules"),
    *("--list-target-rules", "--list-params-changes", "--list-code-changes"),
    *("--summary", "-S", "--detailed-summary", "-D", "--dag", "--rulegraph", "--filegraph"),
    *("--d3dag", "--report", "--containerize"),
}


def open_workspace(root: Path, trust: bool = True) -> Workspace:
    """Return the repository's jobs and files, with DVC's cache as its store."""
    return Workspace(root, Store(cache_folder(root)), trust)


def prove_all(workspace: Workspace) -> dict[str, Proof]:
    """Return the proof of every job, by name."""
    proofs = {name: workspace.prove(job) for name, job in workspace.jobs.items()}
    _show_forgeries(workspace)
    workspace.hashes.save()
    return proofs


def to_snakemake(workspace: Workspace, proofs: Mapping[str, Proof]) -> None:
    """Write Snakemake's records: a proven job is current, any other job is not.

    Records that are as this wrote them last are not read again. Times of change are raised where
    Snakemake would otherwise take an older output of a proven job for outdated.
    """
    records = Records(workspace.root)
    stamps = _read_stamps(workspace.root)
    written: dict[str, list[int | str]] = {}
    for proof in proofs.values():
        job = proof.job
        why = "" if proof.proven else reason(workspace, proof)
        token = hashlib.md5(why.encode(), usedforsecurity=False).hexdigest() if why else "current"
        for path in job.outs:
            if workspace.content(path) is None:
                continue
            if proof.proven:
                records.complete(path)
            stamp = records.stamp(path)
            if stamp is None or stamps.get(path) != [token, *stamp]:
                if proof.proven:
                    made = (workspace.root / path).stat().st_mtime
                    records.accept(path, job.stage, job.command, made)
                else:
                    records.refuse(path, job.stage, why)
                stamp = records.stamp(path) or []
            written[path] = [token, *stamp]
    _raise_times(workspace, proofs)
    workspace.hashes.save()
    if written != stamps:
        _write_stamps(workspace.root, written)


def to_dvc(workspace: Workspace, proofs: Mapping[str, Proof]) -> list[str]:
    """Put proven jobs into dvc.lock and their outputs into DVC's cache; return the new names.

    Raises:
        CarbenchError: another DVC command holds its lock.
    """
    for proof in proofs.values():
        if proof.proven:
            _keep(workspace, proof)
    news = {
        name: (proof.job, proof.witness, _deps(workspace, proof))
        for name, proof in proofs.items()
        if proof.proven and proof.witness and not proof.locked
    }
    if news or not workspace.lock.whole:
        from dvc.lock import LockError

        try:
            with dvc_lock(workspace.root):
                write_lock(workspace.root, news, workspace.lock.whole)
        except LockError:
            raise CarbenchError(
                workspace.root / "dvc.lock",
                found="DVC at work",
                expected="nobody else who writes it",
                fix="wait for that command to end, then run `carbench sync`",
            ) from None
    return list(news)


def open_tidied(root: Path) -> Workspace:
    """Return the workspace, without what jobs of the past left in results/ and the store keeps."""
    workspace = open_workspace(root)
    folders = {path for job in workspace.jobs.values() for path in job.deps}
    return open_workspace(root) if remove_strays(workspace, sorted(folders)) else workspace


class Session:
    """One process of Snakemake, from reading the Snakefile to its end.

    Args:
        root: the repository.
        argv: Snakemake's command line; what only looks neither waits nor writes dvc.lock.
    """

    def __init__(self, root: Path, argv: list[str]) -> None:
        self._root = root
        self._stack = ExitStack()
        if not is_looking(argv):
            self._occupy()
        self.begin(look=is_looking(argv))

    def begin(self, look: bool) -> None:
        """Tell Snakemake what is current; unless it only looks, tell DVC too."""
        workspace = open_workspace(self._root) if look else open_tidied(self._root)
        proofs = prove_all(workspace)
        to_snakemake(workspace, proofs)
        if not look:
            to_dvc(workspace, proofs)

    def finish(self) -> None:
        """Tell DVC what the run has made; say so if that was not possible, the run is done."""
        try:
            workspace = open_workspace(self._root)
            to_dvc(workspace, prove_all(workspace))
        except CarbenchError as error:
            print(error, file=sys.stderr)  # noqa: T201

    def _occupy(self) -> None:
        """Be the only run in this folder, and say so to DVC."""
        try:
            self._stack.enter_context(held(self._root, "snakemake", waiting=None))
            Records(self._root).unlock()
            self._stack.enter_context(writing_results(self._root, " ".join(sys.argv)))
        except BlockingIOError as error:
            raise CarbenchError(
                self._root / "results",
                found=f"another run at work: {error.strerror}",
                expected="one run at a time, or both would make the same results",
                fix="wait for it, or end it",
            ) from None
        # Snakemake has no hook for the end of a run that had nothing to do.
        import atexit

        atexit.register(self._stack.close)


def is_looking(argv: list[str]) -> bool:
    """Whether a command line of Snakemake only looks (``-n``, ``-np``, ``--summary`` ...)."""
    short = [word[1:] for word in argv if word.startswith("-") and not word.startswith("--")]
    return any(word.partition("=")[0] in LOOKING for word in argv) or any(
        word.isalpha() and "n" in word for word in short
    )


def _keep(workspace: Workspace, proof: Proof) -> None:
    """Put a proven job's outputs into the store, where `dvc gc` or a person removed them.

    Of a job that only dvc.lock proves, that word is kept too: the next run would overwrite it.
    """
    assert proof.witness is not None
    if not proof.witness.made and not find_receipt(
        workspace.root, proof.job.name, proof.witness.ingredients.key
    ):
        save_receipt(workspace.root, proof.witness)
    for path in proof.job.outs:
        content = proof.witness.outs[path]
        if not workspace.store.has(content):
            listing = workspace.hashes.listing(path) if content.nfiles is not None else None
            workspace.store.put(workspace.root / path, content, listing)


def _deps(workspace: Workspace, proof: Proof) -> dict[str, Content]:
    return {path: found for path in proof.job.deps if (found := workspace.content(path))}


def _raise_times(workspace: Workspace, proofs: Mapping[str, Proof]) -> None:
    """Make the outputs of proven jobs at least as new as what they were made from.

    Snakemake cannot be told to look at content alone: an input that is newer counts as changed, and
    a job whose input is from the future fails. Times that a clock set ahead left are therefore
    brought back to now.
    """
    now = time.time_ns()
    written: dict[str, int] = {}
    read: dict[str, int] = {}
    inside: dict[str, list[str]] = {}
    for path in (path for proof in proofs.values() for path in proof.job.outs):
        if (found := _times(workspace.root / path)) is None:
            continue
        if max(found) > now:
            _set_time(workspace, path, now)
            found = (now, now)
        written[path], read[path] = found
        for parent in Path(path).parents:
            inside.setdefault(parent.as_posix(), []).append(path)
    for proof in proofs.values():  # dvc.yaml names jobs after those that they read
        if not proof.proven:
            continue
        newest = 0
        for dep in proof.job.deps:
            if dep.startswith(("src/", "scripts/")):
                continue
            for path in [dep] if dep in read else inside.get(dep, [dep]):
                if path not in read:
                    read[path] = (_times(workspace.root / path) or (0, 0))[1]
                newest = max(newest, read[path])
        for path in proof.job.outs:
            if written.get(path, newest) < newest:
                _set_time(workspace, path, newest)
                written[path] = newest
                read[path] = max(read[path], newest)
        benchmark = workspace.root / _benchmark(proof.job)
        if (_times(benchmark) or (newest, newest))[0] < newest:
            os.utime(benchmark, ns=(newest, newest))


def _benchmark(job: JobSpec) -> str:
    """Where Snakemake writes what a job took, beside its log; it counts as output to Snakemake."""
    log = job.command.rpartition(" --log ")[2]
    return log.replace("results/logs/", "results/benchmarks/").replace(".log", ".tsv")


def _times(path: Path) -> tuple[int, int] | None:
    """When a file changed, as Snakemake looks at it: as an output, and as an input.

    A link into the cache is as old as itself as an output, and as what it leads to as an input. A
    folder is as old as Snakemake's mark in it.
    """
    try:
        own, target = path.lstat(), path.stat()
    except FileNotFoundError:
        return None
    if path.is_dir():
        mark = path / ".snakemake_timestamp"
        own = target = mark.stat() if mark.exists() else target
    return own.st_mtime_ns, max(own.st_mtime_ns, target.st_mtime_ns)


def _set_time(workspace: Workspace, path: str, time_ns: int) -> None:
    place = workspace.root / path
    mark = place / ".snakemake_timestamp"
    if mark.exists():
        os.utime(mark, ns=(time_ns, time_ns))
        return
    os.utime(place, ns=(time_ns, time_ns), follow_symlinks=False)
    content = workspace.content(path)
    if content is not None and content.nfiles is None and not place.is_symlink():
        workspace.hashes.remember(path, content)


def _show_forgeries(workspace: Workspace) -> None:
    """Let DVC see an edit that hides behind an old time: it goes by that time alone."""
    for path in workspace.hashes.forged:
        place = workspace.root / path
        found = place.stat()
        os.utime(place, ns=(found.st_atime_ns, found.st_mtime_ns + DVC_TICK_NS))
        log.warning("%s changed, but not its time: hashed anew", path)


def _read_stamps(root: Path) -> dict[str, list[int | str]]:
    try:
        stamps: dict[str, list[int | str]] = json.loads((root / STAMPS).read_text())
        return stamps
    except (OSError, ValueError):
        return {}


def _write_stamps(root: Path, stamps: Mapping[str, list[int | str]]) -> None:
    write_whole(root / STAMPS, json.dumps(stamps))
