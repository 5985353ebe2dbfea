"""What machines that share no file system exchange through a DVC remote.

Objects (the content of inputs and outputs) are where `dvc push` puts them. Beside them, below
``carbench/``, each job has up to four documents, named after the job and the hash of its inputs:

- ``requests``: what a job needs (:mod:`carbench.remote.requests`);
- ``records``: what it made (:mod:`carbench.engines.job_records`), written last;
- ``logs``: the log of its last attempt;
- ``checkpoints``: an archive from which another machine resumes it, while it runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from carbench.engines.content_store import ContentStore
from carbench.engines.dvc_remote import DvcRemote
from carbench.engines.hashing import Content
from carbench.engines.job_records import JobRecord, format_record, parse_record


class Bucket:
    """A DVC remote with the documents of jobs.

    Args:
        root: the repository.
        remote: the remote's name in DVC's configuration, or its URL or folder.
        store: the content store on the repository's cache.

    Raises:
        CarbenchError: from every method: the remote cannot be reached.
    """

    def __init__(self, root: Path, remote: str, store: ContentStore) -> None:
        self._remote = DvcRemote(root, remote)
        self._store = store
        self.name = remote

    def push(self, contents: Iterable[Content]) -> None:
        """Copy contents from the store, which must have them, to the bucket.

        The listing of a folder is written after its files: if it exists, they do, as in DVC.
        """
        folders, files = _by_kind(contents)
        missing = [folder for folder in folders if not self._remote.has(folder.md5)]
        listed = [md5 for folder in missing for md5 in self._store.listed_objects(folder)]
        self._remote.push([*(file.md5 for file in files), *listed])
        self._remote.push(folder.md5 for folder in missing)

    def pull(self, contents: Iterable[Content]) -> bool:
        """Copy contents to the store; return whether it has all of them now."""
        missing = [content for content in contents if not self._store.has(content)]
        self._remote.pull(content.md5 for content in missing)
        folders, _ = _by_kind(missing)
        self._remote.pull(md5 for folder in folders for md5 in self._store.listed_objects(folder))
        return all(map(self._store.has, missing))

    def records(self) -> set[tuple[str, str]]:
        """Return job and key of all records."""
        names = (Path(name) for name in self._remote.documents("records"))
        return {(name.parent.name, name.stem) for name in names}

    def read_record(self, job: str, key: str) -> JobRecord | None:
        """Return the record of a job with these inputs, if there is one."""
        text = self._remote.read(_name("records", job, key, "json"))
        return parse_record(text, job, key) if text is not None else None

    def push_result(self, record: JobRecord) -> None:
        """Copy a job's outputs from the store, then write its record."""
        self.push(record.outs.values())
        name = _name("records", record.job, record.inputs.key, "json")
        self._remote.write(name, format_record(record))

    def read_request(self, job: str, key: str) -> bytes | None:
        """Return a request's text, if there is one."""
        return self._remote.read(_name("requests", job, key, "json"))

    def write_request(self, job: str, key: str, text: bytes) -> None:
        """Write a request."""
        self._remote.write(_name("requests", job, key, "json"), text)

    def read_log(self, job: str, key: str) -> bytes | None:
        """Return the log of a job's last attempt, if there is one."""
        return self._remote.read(_name("logs", job, key, "log"))

    def write_log(self, job: str, key: str, text: bytes) -> None:
        """Write the log of an attempt."""
        self._remote.write(_name("logs", job, key, "log"), text)

    def download_checkpoint(self, job: str, key: str, target: Path) -> bool:
        """Write the archive of a job's checkpoints to a file; return whether there is one."""
        return self._remote.download(_name("checkpoints", job, key, "tar"), target)

    def upload_checkpoint(self, job: str, key: str, source: Path) -> None:
        """Replace the archive of a job's checkpoints."""
        self._remote.upload(source, _name("checkpoints", job, key, "tar"))

    def remove_checkpoint(self, job: str, key: str) -> None:
        """Remove the archive of a job's checkpoints, if there is one."""
        self._remote.remove(_name("checkpoints", job, key, "tar"))


def _by_kind(contents: Iterable[Content]) -> tuple[list[Content], list[Content]]:
    """Return the folders and the files."""
    every = list(contents)
    folders = [content for content in every if content.nfiles is not None]
    return folders, [content for content in every if content.nfiles is None]


def _name(kind: str, job: str, key: str, suffix: str) -> str:
    return f"{kind}/{job}/{key}.{suffix}"
