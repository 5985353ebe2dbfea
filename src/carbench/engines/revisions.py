"""Reads files as they were in a commit or a DVC experiment, without checking anything out.

Small results are in git and large ones in DVC's cache or on its remote; ``dvc.api`` hides which,
and resolves branches, tags, commits and names of experiments alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carbench.core.errors import CarbenchError

# What DVC calls the files as they lie there now.
WORKSPACE = "workspace"


class Revision:
    """The repository's files in one state; opened by :func:`open_revision`.

    Attributes:
        name: as the user gave it.
    """

    def __init__(self, name: str, root: Path, files: Any | None) -> None:
        self.name = name
        self._root = root
        self._files = files  # a dvc.api.DVCFileSystem; None: the workspace's own

    def read(self, path: str) -> bytes:
        """Return the content of a file, fetched from DVC's remote if it is nowhere nearer.

        Args:
            path: relative to the repository, POSIX style.

        Raises:
            CarbenchError: this state has no such file, or its content is out of reach.
        """
        if self._files is None:
            return self._read_here(path)
        try:
            recorded = self._files.info(path).get("dvc_info") or {}
        except FileNotFoundError:
            raise self._not_recorded(path) from None
        try:
            return bytes(self._files.read_bytes(path))
        # The clients of buckets raise whatever they like where there is no network or no right.
        except Exception as error:
            if recorded and not recorded.get("md5"):  # dvc.yaml names it, dvc.lock does not
                raise self._not_recorded(path) from None
            raise CarbenchError(
                self.where(path),
                found="DVC's record of it, but the content neither in DVC's cache nor on a remote "
                f"that can be reached ({_in_a_line(error)})",
                expected="the content of every file that is compared",
                fix=f"`dvc fetch --all-commits {path}` once a remote has it (`dvc "
                "push` or `dvc exp push` where it was made), or run it again: `dvc exp run`",
            ) from None

    def where(self, path: str) -> str:
        """Return how to call one of its files in a sentence: ``main:params.yaml``, as git does."""
        return path if self._files is None else f"{self.name}:{path}"

    def _read_here(self, path: str) -> bytes:
        try:
            return (self._root / path).read_bytes()
        except OSError as error:
            raise CarbenchError(
                path,
                found=f"nothing that can be read in the workspace ({error.strerror})",
                expected="what the study in params.yaml has written",
                fix="run `dvc repro` or `snakemake`; or `dvc checkout`, if it is in DVC's cache",
            ) from None

    def _not_recorded(self, path: str) -> CarbenchError:
        return CarbenchError(
            self.where(path),
            found=f"no such file in {self.name}",
            expected="results that were recorded together with their params.yaml",
            fix="run it again as an experiment (`dvc exp run`), or keep what lies in the workspace "
            f"with `dvc exp save`; `{WORKSPACE}` compares it as it is",
        )


def open_revision(name: str, root: Path = Path()) -> Revision:
    """Return one state of a repository.

    Args:
        name: a DVC experiment, a branch, a tag, a commit, or ``workspace``.
        root: the repository, of git and of DVC.

    Raises:
        CarbenchError: there is no such repository, or nothing of that name in it.
    """
    if name == WORKSPACE:
        return Revision(name, root, None)
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import NoSCM

    try:
        with Repo(str(root)) as here:
            if isinstance(here.scm, NoSCM):
                raise _no_repository(name)
            config = {key: here.config[key] for key in ("core", "remote", "cache")}
        # An old commit knows nothing of a remote that was named since: today's settings hold.
        files = DVCFileSystem(str(root), rev=name, config=config)
        _ = files.repo  # resolves the name
    except NotDvcRepoError:
        raise _no_repository(name) from None
    except DvcException:
        raise CarbenchError(
            name,
            found="no experiment, branch, tag or commit of this name",
            expected=f"one of `dvc exp list --all` or `git branch --all`, or `{WORKSPACE}`",
            fix="correct the name; experiments of others come with `dvc exp pull origin NAME`",
        ) from None
    return Revision(name, root, files)


def _no_repository(name: str) -> CarbenchError:
    return CarbenchError(
        name,
        found="no repository of git and DVC in this folder",
        expected="the repository of a study",
        fix="run from the repository's root",
    )


def _in_a_line(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__
