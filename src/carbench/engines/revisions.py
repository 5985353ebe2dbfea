"""Files of a commit or DVC experiment, read without checking anything out.

Small results are in git, large ones in DVC's cache or on its remote. ``dvc.api`` reads both, and
resolves branches, tags, commits and names of experiments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carbench.core.errors import CarbenchError

# DVC's name for the current files.
WORKSPACE = "workspace"


class Revision:
    """The files of a repository at one revision; opened by :func:`open_revision`.

    Attributes:
        name: the name that the user gave.
    """

    def __init__(self, name: str, root: Path, files: Any | None) -> None:
        self.name = name
        self._root = root
        self._files = files  # a dvc.api.DVCFileSystem; None for the workspace

    def read(self, path: str) -> bytes:
        """Return the content of a file; it is fetched from DVC's remote if necessary.

        Args:
            path: relative to the repository, POSIX style.

        Raises:
            CarbenchError: the revision has no such file, or its content cannot be fetched.
        """
        if self._files is None:
            return self._read_workspace(path)
        try:
            recorded = self._files.info(path).get("dvc_info") or {}
        except FileNotFoundError:
            raise self._not_recorded(path) from None
        try:
            return bytes(self._files.read_bytes(path))
        # Without network or permission, the client libraries of buckets raise errors of many types.
        except Exception as error:
            if recorded and not recorded.get("md5"):  # in dvc.yaml, but not in dvc.lock
                raise self._not_recorded(path) from None
            raise CarbenchError(
                self.where(path),
                found="an entry of DVC, but the content is neither in DVC's cache nor on a "
                f"reachable remote ({_one_line(error)})",
                expected="the content of every file that is compared",
                fix=f"`dvc fetch --all-commits {path}` after `dvc push` or `dvc exp push` on the "
                "machine that made it, or run the experiment again with `dvc exp run`",
            ) from None

    def where(self, path: str) -> str:
        """Return the name of a file for messages, as in git: ``main:params.yaml``."""
        return path if self._files is None else f"{self.name}:{path}"

    def _read_workspace(self, path: str) -> bytes:
        try:
            return (self._root / path).read_bytes()
        except OSError as error:
            raise CarbenchError(
                path,
                found=f"no readable file in the workspace ({error.strerror})",
                expected="a result of the study in params.yaml",
                fix="run `dvc repro` or `snakemake`; or `dvc checkout`, if it is in DVC's cache",
            ) from None

    def _not_recorded(self, path: str) -> CarbenchError:
        return CarbenchError(
            self.where(path),
            found=f"no such file in {self.name}",
            expected="results that were recorded together with their params.yaml",
            fix="run it as an experiment (`dvc exp run`), or save the results in the workspace "
            f"with `dvc exp save`; `{WORKSPACE}` compares them as they are",
        )


def open_revision(name: str, root: Path = Path()) -> Revision:
    """Open a revision of a repository.

    Args:
        name: a DVC experiment, a branch, a tag, a commit, or ``workspace``.
        root: the root of a git and DVC repository.

    Raises:
        CarbenchError: there is no such repository or revision.
    """
    if name == WORKSPACE:
        return Revision(name, root, None)
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import NoSCM

    try:
        with Repo(str(root)) as repo:
            if isinstance(repo.scm, NoSCM):
                raise _no_repository(name)
            config = {key: repo.config[key] for key in ("core", "remote", "cache")}
        # An old commit may not have the remote: the current settings apply.
        files = DVCFileSystem(str(root), rev=name, config=config)
        _ = files.repo  # resolves the name
    except NotDvcRepoError:
        raise _no_repository(name) from None
    except DvcException:
        raise CarbenchError(
            name,
            found="no experiment, branch, tag or commit of this name",
            expected=f"one of `dvc exp list --all` or `git branch --all`, or `{WORKSPACE}`",
            fix="correct the name; `dvc exp pull origin NAME` fetches experiments of others",
        ) from None
    return Revision(name, root, files)


def _no_repository(name: str) -> CarbenchError:
    return CarbenchError(
        name,
        found="no git and DVC repository in this folder",
        expected="the repository of a study",
        fix="run from the repository's root",
    )


def _one_line(error: Exception) -> str:
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(message.split()) or type(error).__name__
