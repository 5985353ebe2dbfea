"""The current state of a repository, compared with job records and dvc.lock.

A job is up to date if a job record, or its entry in dvc.lock, shows that the current command,
parameters and files give exactly the current outputs. Timestamps are not used. Code is compared by
its fingerprint (:mod:`carbench.engines.code_fingerprint`): an edited comment makes no job stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    """Whether a job is up to date.

    Attributes:
        job: the job.
        up_to_date: whether its outputs are what it would write now.
        record: the record that shows it; None if it is stale.
        in_dvc_lock: whether dvc.lock has the same entry.
    """

    job: JobSpec
    up_to_date: bool
    record: JobRecord | None
    in_dvc_lock: bool


class Workspace:
    """A repository's jobs and files, each read once; create a new object to read them again.

    Args:
        root: the repository.
        store: where the content of results is kept.
        use_cached: use cached hashes; False hashes every file again.
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
        self._assumed: dict[str, Content] = {}
        self._dependency_hashes: dict[str, str] = {}

    @cached_property
    def lock(self) -> DvcLockFile:
        """The entries of dvc.lock."""
        return read_lock_file(self.root)

    def content(self, path: str) -> Content | None:
        """Return the content at a path without orphaned outputs; None if nothing exists."""
        if path not in self._contents:
            self._contents[path] = self._read_content(path)
        return self._contents[path]

    def contents(self, paths: Iterable[str]) -> dict[str, Content]:
        """Return the content of all paths that exist."""
        return {path: content for path in paths if (content := self.content(path))}

    def inputs_of(self, job: JobSpec) -> JobInputs | None:
        """Return the current inputs of a job; None if one is missing."""
        if next(self.missing_inputs(job), None) is not None:
            return None
        return JobInputs(
            job.command,
            {key: self.value(key) for key in job.params},
            {path: self._dependency_hash(path) for path in job.deps},
        )

    def lock_entry(self, name: str) -> JobRecord | None:
        """Return a job's entry in dvc.lock, with fingerprints in place of the hashes of code.

        dvc.lock has only hashes of bytes. Where code was edited since, its hash is kept; it differs
        from the current fingerprint.
        """
        entry = self.lock.entries.get(name)
        if entry is None:
            return None
        deps = {
            path: self._dependency_hash(path)
            if is_code(path) and (content := self.content(path)) and content.md5 == md5
            else md5
            for path, md5 in entry.inputs.deps.items()
        }
        return replace(entry, inputs=replace(entry.inputs, deps=deps))

    def assume(self, record: JobRecord) -> None:
        """Count a job's outputs as present with the content of a record, whatever results/ has.

        The jobs that read them must not have been looked at before.
        """
        self._contents.update(record.outs)
        self._assumed.update(record.outs)

    def files_read_by(self, job: JobSpec) -> dict[str, Content]:
        """Return what a job reads except code, by path: files, and folders that one job writes."""
        found: dict[str, Content] = {}
        for path in job.deps:
            if is_code(path):
                continue
            if path in self._folders:
                found |= {f"{path}/{name}": content for name, content in self._listing(path)}
            elif content := self.content(path):
                found[path] = content
        return found

    def store_content(self, path: str, content: Content) -> None:
        """Add the file or folder at a path, which has this content, unless the store has it."""
        if not self.store.has(content):
            listing = self.hashes.listing(path) if content.nfiles is not None else None
            self.store.add(self.root / path, content, listing)

    def save(self) -> None:
        """Save the caches of hashes and fingerprints."""
        self.hashes.save()
        self._code.save()

    def missing_inputs(self, job: JobSpec) -> Iterator[str]:
        """Yield missing inputs of a job: files, folders, and parameters of other files."""
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
        file, _, key_in_file = key.rpartition(":")
        file = file or str(PARAMS)
        if file not in self._params:
            self._params[file] = read_yaml(self.root / file)
        return lookup(self._params[file], key_in_file, Path(file))

    def job_status(self, job: JobSpec) -> JobStatus:
        """Return whether a job is up to date."""
        inputs = self.inputs_of(job)
        if inputs is None:
            return JobStatus(job, False, None, False)
        entry = self.lock_entry(job.name)
        if entry is not None and not (
            entry.inputs.key == inputs.key and self._outputs_match(entry)
        ):
            entry = None
        in_dvc_lock = entry is not None and self.lock.complete
        record = find_record(self.root, job.name, inputs.key, self.store)
        if record is None or not self._outputs_match(record):
            record = entry
        return JobStatus(job, record is not None, record, in_dvc_lock)

    def orphaned_outputs(self, folder: str) -> Iterator[str]:
        """Yield stored outputs of jobs that no longer exist, in a folder of results.

        These are the jobs of backbones or seeds that were removed from params.yaml. DVC can depend
        on a folder only as a whole and would count such files as inputs of the study.
        """
        if folder not in self._folders:
            return
        for name, content in self.hashes.listing(folder):
            path = f"{folder}/{name}"
            if self._is_orphaned(path, content):
                yield path

    def _dependency_hash(self, path: str) -> str:
        # Once per path: all jobs of a stage depend on the same folders of code.
        if path not in self._dependency_hashes:
            self._dependency_hashes[path] = self._compute_dependency_hash(path)
        return self._dependency_hashes[path]

    def _compute_dependency_hash(self, path: str) -> str:
        content = self.content(path)
        assert content is not None
        if not is_code(path):
            return content.md5
        files = [] if content.nfiles is None else self.hashes.listing(path)
        return self._code.fingerprint(path, content, files)

    def _read_content(self, path: str) -> Content | None:
        if path not in self._folders:
            return self.hashes.content(path)
        listing = self._listing(path)
        return folder_content(listing) if listing or (self.root / path).is_dir() else None

    def _listing(self, folder: str) -> list[tuple[str, Content]]:
        """Return the files of a folder that several jobs write into, without orphaned outputs."""
        files = {
            name: content
            for name, content in self.hashes.listing(folder)
            if not self._is_orphaned(f"{folder}/{name}", content)
        }
        prefix = f"{folder}/"
        files |= {
            path.removeprefix(prefix): content
            for path, content in self._assumed.items()
            if path.startswith(prefix)
        }
        return sorted(files.items())

    def _is_orphaned(self, path: str, content: Content) -> bool:
        if path in self._outs:
            return False
        return content.md5 in self._past_outputs.get(path, ()) and self.store.has(content)

    @cached_property
    def _outs(self) -> set[str]:
        return {path for job in self.jobs.values() for path in job.outs}

    @cached_property
    def _folders(self) -> set[str]:
        """Folders that jobs depend on as a whole because other jobs write into them."""
        parents: set[str] = set()
        for path in self._outs:
            parent = path.rpartition("/")[0]
            while parent and parent not in parents:
                parents.add(parent)
                parent = parent.rpartition("/")[0]
        return {path for job in self.jobs.values() for path in job.deps if path in parents}

    @cached_property
    def _past_outputs(self) -> dict[str, set[str]]:
        """Outputs of jobs that no longer exist: md5s by path."""
        outputs: dict[str, set[str]] = {}
        records = [entry for name, entry in self.lock.entries.items() if self._is_past_job(name)]
        for folder in (self.root / FOLDER).glob("*"):
            if self._is_past_job(folder.name):
                records += records_of_job(self.root, folder.name)
        for record in records:
            for path, content in record.outs.items():
                outputs.setdefault(path, set()).add(content.md5)
        return outputs

    def _is_past_job(self, name: str) -> bool:
        return name not in self.jobs and name.partition("@")[0] not in self.unsupported_stages

    def _outputs_match(self, record: JobRecord) -> bool:
        job = self.jobs[record.job]
        return set(record.outs) == set(job.outs) and all(
            (current := self.content(path)) is not None and current.md5 == content.md5
            for path, content in record.outs.items()
        )
