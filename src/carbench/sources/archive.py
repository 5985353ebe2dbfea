"""A zip file, read where it lies; nothing of it is trusted."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from carbench.errors import CarbenchError
from carbench.sources.files import SourceFile, UnreadableFileError

GIGABYTE = 1_000_000_000


@contextmanager
def archive_files(path: Path, max_unpacked_gb: float) -> Iterator[list[SourceFile]]:
    """Open a zip and yield its files, sorted by path.

    Raises:
        CarbenchError: it is no zip, is encrypted, unpacks to more than ``max_unpacked_gb``, or
            holds a link or a path that leaves its folder.
    """
    if not path.is_file():
        raise CarbenchError(
            path,
            key="data.path",
            found="a folder" if path.is_dir() else "nothing",
            expected="a zip file",
            fix="correct data.path in params.yaml (or set data.source: folder)",
        )
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise CarbenchError(
            path,
            found=f"no readable zip ({error})",
            expected="a complete zip file",
            fix="download it again",
        ) from None
    with archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        _refuse_bomb(path, members, max_unpacked_gb)
        files = [
            SourceFile(_safe_path(path, member), _reader(archive, member)) for member in members
        ]
        yield sorted(files, key=lambda file: file.path.parts)


def _refuse_bomb(path: Path, members: list[zipfile.ZipInfo], max_unpacked_gb: float) -> None:
    unpacked = sum(member.file_size for member in members)
    if unpacked > max_unpacked_gb * GIGABYTE:
        raise CarbenchError(
            path,
            found=f"{unpacked / GIGABYTE:.3g} GB when unpacked",
            expected=f"at most data.max_unpacked_gb = {max_unpacked_gb:g}",
            fix="raise data.max_unpacked_gb if you trust this archive",
        )


def _safe_path(path: Path, member: zipfile.ZipInfo) -> PurePosixPath:
    inside = PurePosixPath(member.filename.replace("\\", "/"))
    drive = bool(inside.parts) and inside.parts[0].endswith(":")
    if inside.is_absolute() or drive or ".." in inside.parts:
        raise CarbenchError(
            path,
            key=member.filename,
            found="a path that leaves the archive's folder",
            expected="paths inside it",
            fix="do not use this archive: it may have been made to overwrite your files",
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise CarbenchError(
            path,
            key=member.filename,
            found="a symbolic link",
            expected="pictures",
            fix="unpack it yourself, look at it, and use data.source: folder",
        )
    if member.flag_bits & 1:
        raise CarbenchError(
            path,
            key=member.filename,
            found="an encrypted file",
            expected="an archive without a password",
            fix="unpack it yourself and use data.source: folder",
        )
    return inside


def _reader(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            # zipfile stops at the size that the directory states, so a lying size cannot expand.
            return archive.read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise UnreadableFileError(f"damaged in the archive ({error})") from None

    return read
