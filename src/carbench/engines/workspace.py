"""What lies in results/ today, held against the records and against dvc.lock.

A job is *up_to_date* if a record, or its entry in dvc.lock, says that today's command, parameters and
files give exactly what lies there. Nothing is up_to_date by a clock. Code counts by its fingerprint
(:mod:`carbench.engines.code_fingerprint`): an edited comment leaves a job up_to_date.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from carbench.core.errors import CarbenchError
from carbench.core.params import lookup, read_yaml
from carbench.engines.code_fingerprint import CodeFingerprints, is_code
from carbench.engines.content_store import ContentStore
from carbench.engines.dvc_lock_file import DvcLockFile, read_lock_file
from carbench.engines.dvc_yaml import PARAMS, JobSpec, read_definition
from carbench.engines.hashing import Content, HashCache, folder_content
from carbench.engines.job_records import FOLDER, JobInputs, JobRecord, find_record, records_of_job


@dataclass(frozen=True)
class JobStatus:
    """Whether a job's outputs are what it would make today, and by whose word.

    ``witness`` is the record that proves it; ``locked`` whether dvc.lock says the same already.
    """

    job: JobSpec
    up_to_date: bool
    record: JobRecord | None
    in_dvc_lock: bool


class Workspace:
    """A repository's jobs and files, read once; make another one to look again.

    Args:
        root: the repository.
        store: where the content of results is kept.
        use_cached: use remembered hashes; False hashes every file anew.
    """

    def __init__(self, root: Path, store: ContentStore, use_cached: bool = True) -> None:
        self.root = root
        self.store = store
        self.hashes = HashCache(root, use_cached)
        self._code = CodeFingerprints(root)
        definition = read_definition(root)
        self.jobs = definition.jobs
        self.unsupported_stages = definition.unsupported_stages
        self._params = {str(PARAMS): read_yaml(root / PARAMS)}
        self._contents: dict[str, Content | None] = {}

    @cached_property
    def lock(self) -> DvcLockFile:
        """What dvc.lock says, by job."""
        return read_lock_file(self.root)

    def content(self, path: str) -> Content | None:
        """Return what lies at a path, without what jobs of the past left in it; None: nothing."""
        if path not in self._contents:
            self._contents[path] = self._look(path)
        return self._contents[path]

    def inputs_of(self, job: JobSpec) -> JobInputs | None:
        """Return what a job would be made from today; None if something is missing."""
        if next(self.missing(job), None) is not None:
            return None
        return JobInputs(
            job.command,
            {key: self.value(key) for key in job.params},
            {path: self._fingerprint(path) for path in job.deps},
        )

    def lock_entry(self, name: str) -> JobRecord | None:
        """Return what dvc.lock says of a job, with the fingerprint of code that is today's.

        dvc.lock has only hashes of bytes; of code that has been edited since, its hash stays, which
        is no fingerprint of today's.
        """
        entry = self.lock.entries.get(name)
        if entry is None:
            return None
        deps = {
            path: self._fingerprint(path)
            if is_code(path) and (found := self.content(path)) and found.md5 == md5
            else md5
            for path, md5 in entry.inputs.deps.items()
        }
        return replace(entry, inputs=replace(entry.inputs, deps=deps))

    def save(self) -> None:
        """Write down what was hashed."""
        self.hashes.save()
        self._code.save()

    def missing(self, job: JobSpec) -> Iterator[str]:
        """Yield what a job reads and is not there: files, folders, parameters of other files."""
        yield from (path for path in job.deps if self.content(path) is None)
        for key in job.params:
            if ":" in key:
                try:
                    self.value(key)
                except CarbenchError:
                    yield key

    def value(self, key: str) -> Any:
        """Return a parameter: the value at a key of params.yaml, or at ``FILE:KEY``.

        Raises:
            CarbenchError: there is none.
        """
        file, _, own = key.rpartition(":")
        file = file or str(PARAMS)
        if file not in self._params:
            self._params[file] = read_yaml(self.root / file)
        return lookup(self._params[file], own, Path(file))

    def job_status(self, job: JobSpec) -> JobStatus:
        """Say whether what a job has left is what it would make today."""
        wanted = self.inputs_of(job)
        if wanted is None:
            return JobStatus(job, False, None, False)
        key = wanted.key
        entry = self.lock_entry(job.name)
        known = entry is not None and entry.inputs.key == key and self._lies_there(entry)
        locked = known and self.lock.complete
        record = find_record(self.root, job.name, key, self.store)
        if record is not None and self._lies_there(record):
            return JobStatus(job, True, record, locked)
        return JobStatus(job, known, entry if known else None, locked)

    def orphaned_outputs(self, folder: str) -> Iterator[str]:
        """Yield files in a folder of results that jobs of the past left and the store has kept.

        The jobs of a backbone or seed that params.yaml no longer names. To DVC, which can depend on
        a folder only as a complete, they would be part of what the study reads.
        """
        if folder not in self._folders:
            return
        for name, content in self.hashes.listing(folder):
            path = f"{folder}/{name}"
            if self._is_stray(path, content):
                yield path

    def _fingerprint(self, path: str) -> str:
        content = self.content(path)
        assert content is not None
        if not is_code(path):
            return content.md5
        files = [] if content.nfiles is None else self.hashes.listing(path)
        return self._code.fingerprint(path, content, files)

    def _look(self, path: str) -> Content | None:
        if path not in self._folders:
            return self.hashes.content(path)
        if not (self.root / path).is_dir():
            return None
        files = self.hashes.listing(path)
        return folder_content(
            [(name, each) for name, each in files if not self._is_stray(f"{path}/{name}", each)]
        )

    def _is_stray(self, path: str, content: Content) -> bool:
        if path in self._outs:
            return False
        return content.md5 in self._past.get(path, ()) and self.store.has(content)

    @cached_property
    def _outs(self) -> set[str]:
        return {path for job in self.jobs.values() for path in job.outs}

    @cached_property
    def _folders(self) -> set[str]:
        """Folders that jobs depend on as a complete, because other jobs write into them."""
        above = {str(parent) for path in self._outs for parent in Path(path).parents}
        return {path for job in self.jobs.values() for path in job.deps if path in above}

    @cached_property
    def _past(self) -> dict[str, set[str]]:
        """What jobs that the study no longer has have written: md5s by path."""
        found: dict[str, set[str]] = {}
        gone = [entry for name, entry in self.lock.entries.items() if self._is_gone(name)]
        for folder in (self.root / FOLDER).glob("*"):
            if self._is_gone(folder.name):
                gone += records_of_job(self.root, folder.name)
        for record in gone:
            for path, content in record.outs.items():
                found.setdefault(path, set()).add(content.md5)
        return found

    def _is_gone(self, name: str) -> bool:
        return name not in self.jobs and name.partition("@")[0] not in self.unsupported_stages

    def _lies_there(self, record: JobRecord) -> bool:
        job = self.jobs[record.job]
        return set(record.outs) == set(job.outs) and all(
            (found := self.content(path)) is not None and found.md5 == content.md5
            for path, content in record.outs.items()
        )
