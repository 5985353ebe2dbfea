"""All that carbench uses of Snakemake and DVC beyond what they document, in one place.

Both are pinned in pyproject.toml; tests/test_internals.py says which of these moved when one is
raised. Nothing here decides anything: it reads jobs out of the engines, writes Snakemake's records,
and takes DVC's locks.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

# What this module was written against.
SNAKEMAKE = "9.27.1"
DVC = "3.67.1"
RECORD_FORMAT = 6


class Records:
    """Snakemake's records of how its outputs were made: ``.snakemake/metadata``.

    Snakemake compares a record's ``params``, ``input`` and ``code`` with the job's, where the
    record has any: a record without them is never outdated, one with impossible params always.
    """

    def __init__(self, root: Path) -> None:
        from snakemake.persistence import RECORD_FORMAT_VERSION
        from snakemake.persistence.file import FilePersistence

        if RECORD_FORMAT_VERSION != RECORD_FORMAT:
            raise RuntimeError(
                f"Snakemake writes records of format {RECORD_FORMAT_VERSION}; carbench knows "
                f"{RECORD_FORMAT}. Fix: install the versions of requirements.lock"
            )
        self._files = FilePersistence(path=root.absolute() / ".snakemake")
        self._incomplete = any(names for _, _, names in os.walk(self._files._incomplete_path))

    def stamp(self, output: str) -> list[int] | None:
        """Return what changes when a record is written; None: the output has none."""
        try:
            found = Path(self._files._record_path(self._files._metadata_path, output)).stat()
        except FileNotFoundError:
            return None
        return [found.st_mtime_ns, found.st_size]

    def accept(self, output: str, rule: str, command: str, made: float) -> None:
        """Let Snakemake take an output for current; ``made``: when, in seconds since 1970."""
        from snakemake.persistence import MetadataRecord

        record = self._files._read_record(output) or MetadataRecord(
            rule=rule, shellcmd=command, starttime=made, endtime=made
        )
        record.params = record.input = record.code = None
        record.input_checksums = {}
        record.incomplete = False
        record.record_format_version = RECORD_FORMAT
        self._files._write_record(output, record)

    def refuse(self, output: str, rule: str, reason: str) -> None:
        """Let Snakemake take an output for outdated, and say ``reason`` where it says why."""
        from snakemake.persistence import MetadataRecord

        record = MetadataRecord(
            rule=rule, params=[reason], incomplete=False, record_format_version=RECORD_FORMAT
        )
        self._files._write_record(output, record)

    def complete(self, output: str) -> None:
        """Take away the mark of a job that was killed while it made an output."""
        if self._incomplete:
            self._files._unmark_incomplete(output)

    def unlock(self) -> None:
        """Remove the locks of a killed run; the caller knows that no other run is at work."""
        shutil.rmtree(self._files._lockdir, ignore_errors=True)


@contextmanager
def snakemake_dag(root: Path) -> Iterator[Any]:
    """Yield the DAG that `snakemake -n` in ``root`` plans, with the profile that it finds."""
    from snakemake.api import SnakemakeApi
    from snakemake.cli import parse_args
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import DAGSettings, OutputSettings, ResourceSettings

    with inside(root), SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        # As on the command line, with the profile that Snakemake finds by itself.
        _, profile = parse_args(["--dry-run"])
        workflow_api = api.workflow(
            resource_settings=ResourceSettings(cores=os.cpu_count()),
            snakefile=root / "Snakefile",
            workdir=root,
        )
        dag_api = workflow_api.dag(
            DAGSettings(
                rerun_triggers=profile.rerun_triggers,
                max_checksum_file_size=profile.max_checksum_file_size,
                force_incomplete=True,
            )
        )
        workflow = dag_api.workflow_api._workflow
        workflow._prepare_dag(forceall=False, ignore_incomplete=False, lock_warn_only=True)
        workflow._build_dag()
        yield workflow.dag


def snakemake_forces(words: list[str]) -> set[str]:
    """Return the rules and files that a command line of Snakemake forces; {"all"}: every one."""
    from snakemake.cli import parse_args

    with redirect_stderr(io.StringIO()):  # it would name the profile a second time
        _, asked = parse_args(words)
    if asked.forceall:
        return {"all"}
    return {*asked.forcerun} | ({*asked.targets} if asked.force else set())


def dvc_forces(words: list[str]) -> bool:
    """Say whether a command line of DVC asks to run stages in spite of what is known of them."""
    from dvc.cli.parser import get_main_parser

    asked, _ = get_main_parser().parse_known_args(words)
    return bool(getattr(asked, "force", False) or getattr(asked, "no_run_cache", False))


@contextmanager
def dvc_repo(root: Path) -> Iterator[Any]:
    """Yield DVC's view of the repository, locked against other DVC commands."""
    from dvc.repo import Repo

    with inside(root), Repo(str(root)) as repo, repo.lock:
        yield repo


@contextmanager
def writing_results(root: Path, command: str) -> Iterator[None]:
    """Tell DVC that this process writes into results/, so that its own runs say so and stop.

    Raises:
        BlockingIOError: a DVC command is at work there; its ``strerror`` names it.
    """
    from dvc.fs import localfs
    from dvc.lock import LockError
    from dvc.rwlock import rwlock

    folder = root / ".dvc/tmp"
    folder.mkdir(exist_ok=True)
    written = [str((root / "results").absolute())]
    mend_rwlock(root)
    taken = rwlock(str(folder), localfs, command, [], written, False)
    try:
        # DVC holds the first while it looks and decides, an entry of the second while a stage runs.
        with dvc_lock(root):
            taken.__enter__()
    except LockError as error:
        raise BlockingIOError(None, " ".join(str(error).split())) from None
    try:
        yield
    finally:
        taken.__exit__(None, None, None)


def mend_rwlock(root: Path) -> bool:
    """Remove DVC's list of who reads and writes if no text is in it; say whether that was so.

    DVC empties the file and then fills it. Killed between the two it refuses to run ever after.
    """
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    folder = root / ".dvc/tmp"
    path = folder / RWLOCK_FILE
    if not path.is_file():
        return False
    with make_lock(str(folder / RWLOCK_LOCK), tmp_dir=str(folder)):
        try:
            json.loads(path.read_text())
        except ValueError:
            path.unlink()
            return True
    return False


@contextmanager
def dvc_lock(root: Path) -> Iterator[None]:
    """Hold the lock that every DVC command takes; ``LockError`` of DVC after three seconds."""
    from dvc.lock import make_lock

    folder = root / ".dvc/tmp"
    folder.mkdir(exist_ok=True)
    with make_lock(str(folder / "lock"), tmp_dir=str(folder)):
        yield


@contextmanager
def inside(root: Path) -> Iterator[None]:
    """Work in ``root``, as a person who types the engine's command does."""
    before = Path.cwd()
    os.chdir(root)
    try:
        yield
    finally:
        os.chdir(before)
