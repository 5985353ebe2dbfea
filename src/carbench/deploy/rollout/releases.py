"""The folder of deployed models: numbered releases, and a link to the one to be served.

    current -> 2-lite1-0-3f1c0a9be2d4
    1-lite0-0-9b21d4470c5e/
    2-lite1-0-3f1c0a9be2d4/     an exported folder, and `previous`, a link to the release before

A release appears by one rename and is never changed, and ``current`` is replaced by one rename:
whenever a process is killed, ``current`` leads to a complete model. All links are relative, so that
the folder may be mounted elsewhere, for example in a container.
"""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carbench.core.atomic import atomic_path, staging_folder
from carbench.core.errors import CarbenchError
from carbench.deploy.bundle.exported_model import MODEL_CARD, MODEL_JSON, read_model, read_verified
from carbench.deploy.bundle.loading import load_bundle

CURRENT = "current"
PREVIOUS = "previous"
LOCK = ".lock"
NAME = re.compile(r"([1-9]\d*)-.+")
# Releases that are kept: the current one and those before it.
KEPT = 5


class Releases:
    """The releases in a folder, which is created if needed.

    Args:
        folder: the folder; the service is started with ``--model FOLDER/current``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._link = folder / CURRENT

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from deploying to the folder; released if this one is killed.

        Raises:
            CarbenchError: another process is deploying to it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CarbenchError(
                    self.folder,
                    found="another deployment in progress",
                    expected="one at a time",
                    fix="wait until it has ended, and repeat the command",
                ) from None
            yield

    @property
    def current(self) -> Path | None:
        """The release to be served; None before the first deployment.

        Raises:
            CarbenchError: ``current`` is not such a link.
        """
        release = self._target(self._link)
        if release is None and self._link.exists():
            raise CarbenchError(
                self._link,
                found="something else than a link to a release beside it",
                expected="such a link, made by `carbench deploy`, or nothing",
                fix="deploy to another folder, or move it away",
            )
        return release

    def previous(self, release: Path) -> Path | None:
        """Return the release that a release has replaced; None if there is none any more."""
        return self._target(release / PREVIOUS)

    def add(self, bundle: Path, int8: bool) -> Path:
        """Add an exported folder, which becomes a release once it is copied and verified.

        Args:
            bundle: the exported folder.
            int8: whether its 8-bit model will be served.

        Raises:
            CarbenchError: a file is missing or damaged, or the service would not load the model.
            OSError: the folder cannot be written.
        """
        model = read_model(bundle)
        newest = max(map(_number, self.folder.iterdir()), default=0)
        # The version becomes part of a path.
        version = re.sub(r"[^\w.-]+", "-", model.version)
        release = self.folder / f"{newest + 1}-{version}"
        with staging_folder(self.folder) as staging:
            copy = staging / "model"
            copy.mkdir()
            for name in model.metadata.sha256:
                (copy / name).write_bytes(read_verified(model, name))
            for name in (MODEL_JSON, MODEL_CARD):
                if (bundle / name).is_file():
                    shutil.copyfile(bundle / name, copy / name)
            load_bundle(copy, int8)
            if self.current is not None:
                (copy / PREVIOUS).symlink_to(f"../{self.current.name}")
            copy.rename(release)
        return release

    def switch(self, release: Path) -> None:
        """Make a release the current one."""
        with atomic_path(self._link) as draft:
            draft.symlink_to(release.name)

    def history(self) -> list[Path]:
        """Return the current release and those before it, the newest first."""
        found: list[Path] = []
        release = self.current
        while release is not None and release not in found:
            found.append(release)
            release = self.previous(release)
        return found

    def remove_old(self) -> None:
        """Remove all releases but the newest ones of the history."""
        kept = self.history()[:KEPT]
        for release in self.folder.iterdir():
            if _number(release) and release not in kept:
                shutil.rmtree(release)

    def _target(self, link: Path) -> Path | None:
        """Return the release that a link leads to; None if there is none."""
        if not link.is_symlink():
            return None
        release = self.folder / link.readlink().name
        return release if release.is_dir() else None


def _number(path: Path) -> int:
    """Return the number of a release; 0 for any other path."""
    found = NAME.fullmatch(path.name)
    return int(found[1]) if found and path.is_dir() and not path.is_symlink() else 0
