"""What lies in results/ today, held against the receipts and against dvc.lock.

A job is *proven* if a receipt, or its entry in dvc.lock, says that today's command, parameters and
files give exactly what lies there. Nothing is proven by a clock. Code counts by its fingerprint
(:mod:`carbench.engines.code`): an edited comment leaves a job proven.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from carbench.core.errors import CarbenchError
from carbench.core.params import lookup, read_yaml
from carbench.engines.code import Fingerprints, is_code
from carbench.engines.dvc_lock import Lock, read_lock
from carbench.engines.dvc_yaml import PARAMS, JobSpec, read_definition
from carbench.engines.hashing import Content, Hashes, content_of
from carbench.engines.records import FOLDER, Ingredients, Receipt, find_receipt, receipts_of
from carbench.engines.run_cache import Store


@dataclass(frozen=True)
class Proof:
    """Whether a job's outputs are what it would make today, and by whose word.

    ``witness`` is the receipt that proves it; ``locked`` whether dvc.lock says the same already.
    """

    job: JobSpec
    proven: bool
    witness: Receipt | None
    locked: bool


class Workspace:
    """A repository's jobs and files, read once; make another one to look again.

    Args:
        root: the repository.
        store: where the content of results is kept.
        trust: use remembered hashes; False hashes every file anew.
    """

    def __init__(self, root: Path, store: Store, trust: bool = True) -> None:
        self.root = root
        self.store = store
        self.hashes = Hashes(root, trust)
        self._code = Fingerprints(root)
        definition = read_definition(root)
        self.jobs = definition.jobs
        self.left_alone = definition.left_alone
        self._params = {str(PARAMS): read_yaml(root / PARAMS)}
        self._contents: dict[str, Content | None] = {}

    @cached_property
    def lock(self) -> Lock:
        """What dvc.lock says, by job."""
        return read_lock(self.root)

    def content(self, path: str) -> Content | None:
        """Return what lies at a path, without what jobs of the past left in it; None: nothing."""
        if path not in self._contents:
            self._contents[path] = self._look(path)
        return self._contents[path]

    def ingredients(self, job: JobSpec) -> Ingredients | None:
        """Return what a job would be made from today; None if something is missing."""
        if next(self.missing(job), None) is not None:
            return None
        return Ingredients(
            job.command,
            {key: self.value(key) for key in job.params},
            {path: self._fingerprint(path) for path in job.deps},
        )

    def locked(self, name: str) -> Receipt | None:
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
            for path, md5 in entry.ingredients.deps.items()
        }
        return replace(entry, ingredients=replace(entry.ingredients, deps=deps))

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

    def prove(self, job: JobSpec) -> Proof:
        """Say whether what a job has left is what it would make today."""
        wanted = self.ingredients(job)
        if wanted is None:
            return Proof(job, False, None, False)
        key = wanted.key
        entry = self.locked(job.name)
        known = entry is not None and entry.ingredients.key == key and self._lies_there(entry)
        locked = known and self.lock.whole
        receipt = find_receipt(self.root, job.name, key, self.store)
        if receipt is not None and self._lies_there(receipt):
            return Proof(job, True, receipt, locked)
        return Proof(job, known, entry if known else None, locked)

    def strays(self, folder: str) -> Iterator[str]:
        """Yield files in a folder of results that jobs of the past left and the store has kept.

        The jobs of a backbone or seed that params.yaml no longer names. To DVC, which can depend on
        a folder only as a whole, they would be part of what the study reads.
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
        return self._code.of(path, content, files)

    def _look(self, path: str) -> Content | None:
        if path not in self._folders:
            return self.hashes.of(path)
        if not (self.root / path).is_dir():
            return None
        files = self.hashes.listing(path)
        return content_of(
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
        """Folders that jobs depend on as a whole, because other jobs write into them."""
        above = {str(parent) for path in self._outs for parent in Path(path).parents}
        return {path for job in self.jobs.values() for path in job.deps if path in above}

    @cached_property
    def _past(self) -> dict[str, set[str]]:
        """What jobs that the study no longer has have written: md5s by path."""
        found: dict[str, set[str]] = {}
        gone = [entry for name, entry in self.lock.entries.items() if self._is_gone(name)]
        for folder in (self.root / FOLDER).glob("*"):
            if self._is_gone(folder.name):
                gone += receipts_of(self.root, folder.name)
        for receipt in gone:
            for path, content in receipt.outs.items():
                found.setdefault(path, set()).add(content.md5)
        return found

    def _is_gone(self, name: str) -> bool:
        return name not in self.jobs and name.partition("@")[0] not in self.left_alone

    def _lies_there(self, receipt: Receipt) -> bool:
        job = self.jobs[receipt.job]
        return set(receipt.outs) == set(job.outs) and all(
            (found := self.content(path)) is not None and found.md5 == content.md5
            for path, content in receipt.outs.items()
        )
