"""A DVC remote: objects in DVC's layout, and carbench's own documents beside them.

DVC's clients are used for both, so that every remote that DVC supports works, with its credentials
and options. `dvc push`, `dvc pull` and `dvc gc` see the objects; they ignore the documents.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from carbench.core.errors import CarbenchError

# Where the documents are, below the remote's path.
DOCUMENTS = "carbench"
# The name in DVC's configuration of a remote that is given by its URL.
UNNAMED = "carbench-remote"


class DvcRemote:
    """A remote of a repository.

    Args:
        root: the repository; objects are transferred from and to its cache.
        remote: the remote's name in DVC's configuration, or a URL or folder.

    Raises:
        CarbenchError: there is no such remote, or a package for its protocol is missing.
    """

    def __init__(self, root: Path, remote: str) -> None:
        self.name = remote
        named = "/" not in remote
        url = remote if "://" in remote else str(Path(remote).expanduser().absolute())
        # The documents of a worker need no git.
        config = {"core": {"no_scm": not (root / ".git").exists()}}
        with self._errors():
            from dvc.repo import Repo

            if not named:
                config["remote"] = {UNNAMED: {"url": url}}  # type: ignore[dict-item]
            repo = Repo(str(root), config=config)
            opened = repo.cloud.get_remote(remote if named else UNNAMED)
            self._cache = repo.cache.local
            self._odb = opened.odb
            self._fs = opened.fs
            self._path = self._fs.join(opened.path, DOCUMENTS)
        # Third-party clients log each failed attempt, which is reported at the end.
        logging.getLogger("dvc_data").setLevel(logging.ERROR)

    def has(self, md5: str) -> bool:
        """Return whether the remote has an object."""
        with self._errors():
            return bool(self._odb.exists(md5))

    def push(self, md5s: Iterable[str]) -> None:
        """Copy objects from the cache, which must have them, unless the remote has them.

        Raises:
            CarbenchError: the remote cannot be written.
        """
        self._transfer(self._cache, self._odb, md5s, verify=False)

    def pull(self, md5s: Iterable[str]) -> None:
        """Copy objects to the cache, and check their hashes.

        Objects that the remote does not have, or that are damaged there, are left out.

        Raises:
            CarbenchError: the remote cannot be read.
        """
        self._transfer(self._odb, self._cache, md5s, verify=True)

    def read(self, document: str) -> bytes | None:
        """Return a document; None if there is none."""
        with self._errors():
            try:
                data: bytes = self._fs.cat_file(self._document_path(document))
            except FileNotFoundError:
                return None
            return data

    def write(self, document: str, data: bytes) -> None:
        """Write or replace a document."""
        path = self._document_path(document)
        with self._errors():
            self._fs.makedirs(self._fs.parent(path), exist_ok=True)
            self._fs.pipe_file(path, data)

    def remove(self, document: str) -> None:
        """Remove a document, if it exists."""
        with self._errors():
            try:
                self._fs.rm_file(self._document_path(document))
            except FileNotFoundError:
                return

    def upload(self, source: Path, document: str) -> None:
        """Write a document from a file, which may be large."""
        path = self._document_path(document)
        with self._errors():
            self._fs.makedirs(self._fs.parent(path), exist_ok=True)
            self._fs.put_file(str(source), path)

    def download(self, document: str, target: Path) -> bool:
        """Write a document to a file; return whether it exists."""
        with self._errors():
            try:
                self._fs.get_file(self._document_path(document), str(target))
            except FileNotFoundError:
                target.unlink(missing_ok=True)
                return False
            return True

    def documents(self, folder: str) -> list[str]:
        """Return the names of the documents below a folder, relative to it."""
        path = self._document_path(folder)
        with self._errors():
            self._fs.fs.invalidate_cache()
            try:
                found = list(self._fs.find(path))
            except FileNotFoundError:
                return []
        return [name[len(path) + 1 :] for name in found if name.startswith(f"{path}/")]

    def _document_path(self, document: str) -> str:
        path: str = self._fs.join(self._path, document)
        return path

    def _transfer(self, source: Any, target: Any, md5s: Iterable[str], verify: bool) -> None:
        hashes = set(md5s)
        if not hashes:
            return
        with self._errors():
            from dvc_data.hashfile.hash_info import HashInfo
            from dvc_data.hashfile.transfer import transfer

            self._fs.fs.invalidate_cache()  # other machines have written since the last listing
            failed = transfer(
                source, target, {HashInfo("md5", md5) for md5 in hashes}, verify=verify
            ).failed
            if failed and target is self._odb:
                raise OSError(None, f"{len(failed)} objects were not transferred")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Convert the errors of the clients, each of which has its own classes."""
        try:
            yield
        except CarbenchError:
            raise
        except Exception as error:
            cause = error.__cause__ or error
            text = " ".join(str(cause).split()) or type(cause).__name__
            raise CarbenchError(
                self.name,
                found=text,
                expected="a remote that this machine can read and write",
                fix="see `Troubleshooting` in docs/sharing.md",
            ) from error
