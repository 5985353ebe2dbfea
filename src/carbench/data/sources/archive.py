"""A zip file, read where it lies; nothing of it is trusted."""

from __future__ import annotations

import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from carbench.core.errors import CarbenchError
from carbench.data.images.formats import START, format_of
from carbench.data.sources.files import (
    Listing,
    Reader,
    SourceFile,
    UnreadableFileError,
    empty_folders,
)

GIGABYTE = 1_000_000_000

# Compression methods as the format numbers them. Python reads those that it has a name for.
METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
READABLE = {
    getattr(zipfile, name)
    for name in ("ZIP_STORED", "ZIP_DEFLATED", "ZIP_BZIP2", "ZIP_LZMA", "ZIP_ZSTANDARD")
    if hasattr(zipfile, name)
}
IS_ENCRYPTED, IS_UTF8 = 0x1, 0x800
UNPACK = "unpack it yourself and use data.source: folder"


@contextmanager
def archive_listing(path: Path, max_unpacked_gb: float) -> Iterator[Listing]:
    """Open a zip and yield what it holds.

    Raises:
        CarbenchError: it is no zip, is encrypted or compressed in a way that Python cannot read,
            unpacks to more than ``max_unpacked_gb``, or holds a link, two entries of one name, a
            name in an unknown encoding or a path that leaves its folder.
    """
    if not path.is_file():
        raise CarbenchError(
            path,
            key="data.path",
            found="a folder" if path.is_dir() else "no file" if path.exists() else "nothing",
            expected="a zip file",
            fix="correct data.path in params.yaml (or set data.source: folder)",
        )
    with _open(path) as archive:
        members = archive.infolist()
        names = [_checked_name(path, member) for member in members]
        _refuse_repeats(path, names)
        contents = [
            (PurePosixPath(name), member) for name, member in zip(names, members, strict=True)
        ]
        files = [
            SourceFile(inside, _reader(archive, member))
            for inside, member in contents
            if not member.is_dir()
        ]
        _refuse_bomb(path, members, max_unpacked_gb)
        files.sort(key=lambda file: file.path.parts)
        folders = (inside for inside, member in contents if member.is_dir())
        yield Listing(files, empty_folders(folders, (file.path for file in files)))


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except UnicodeDecodeError as error:
        name = bytes(error.object).decode("utf-8", "backslashreplace")
        raise CarbenchError(
            path,
            key=name,
            found="a name that is not UTF-8, though the archive says so",
            expected="names in UTF-8",
            fix=UNPACK,
        ) from None
    except NotImplementedError as error:
        raise CarbenchError(
            path,
            found=f"a {error}, which Python cannot read",
            expected="a zip file of version 6.3 or older",
            fix=UNPACK,
        ) from None
    except Exception as error:  # zipfile meets damage with OSError, struct.error, ValueError, ...
        with path.open("rb") as file:
            kind = format_of(file.read(START))
        is_another = kind not in (None, "ZIP")
        raise CarbenchError(
            path,
            found=f"{kind}, no zip" if is_another else f"no readable zip ({error})",
            expected="a complete zip file",
            fix=UNPACK if kind in ("RAR", "7z", "gzip") else "download it again",
        ) from None


def _refuse_repeats(path: Path, names: list[str]) -> None:
    for name, times in Counter(names).most_common(1):
        if times > 1:
            raise CarbenchError(
                path,
                key=name,
                found=f"{times} entries of this name",
                expected="each name once: which of them counts is not said",
                fix=UNPACK,
            )


def _refuse_bomb(path: Path, members: list[zipfile.ZipInfo], max_unpacked_gb: float) -> None:
    unpacked = sum(member.file_size for member in members)
    if unpacked > max_unpacked_gb * GIGABYTE:
        raise CarbenchError(
            path,
            found=f"{unpacked / GIGABYTE:.3g} GB when unpacked",
            expected=f"at most data.max_unpacked_gb = {max_unpacked_gb:g}",
            fix="raise data.max_unpacked_gb if you trust this archive",
        )


def _checked_name(path: Path, member: zipfile.ZipInfo) -> str:
    """Return the member's path inside the archive, if the member may be used."""

    def refused(found: str, expected: str, fix: str = UNPACK) -> CarbenchError:
        return CarbenchError(path, key=member.filename, found=found, expected=expected, fix=fix)

    name = _decoded_name(member)
    if name is None:
        raise refused(
            "a name in an encoding that the archive does not state, as which it reads like this",
            "names in UTF-8",
        )
    name = name.replace("\\", "/")
    inside = PurePosixPath(name)
    drive = bool(inside.parts) and inside.parts[0].endswith(":")
    if inside.is_absolute() or drive or ".." in inside.parts:
        raise refused(
            "a path that leaves the archive's folder",
            "paths inside it",
            "do not use this archive: it may have been made to overwrite your files",
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise refused(
            "a symbolic link",
            "images",
            "unpack it yourself, look at it, and use data.source: folder",
        )
    if member.flag_bits & IS_ENCRYPTED:
        raise refused("an encrypted file", "an archive without a password")
    if member.compress_type not in READABLE:
        method = METHODS.get(member.compress_type, f"method {member.compress_type}")
        raise refused(f"a file compressed with {method}, which Python cannot read", "Deflate")
    return name


def _decoded_name(member: zipfile.ZipInfo) -> str | None:
    """Return the name as its writer meant it, or None where nothing says how it is encoded.

    Without the flag for UTF-8 zipfile reads the bytes as code page 437; many programs write UTF-8
    without the flag, others whatever their system uses (GBK, Shift-JIS).
    """
    name = member.filename
    if name.isascii() or member.flag_bits & IS_UTF8:
        return name
    try:
        return (_unicode_path(member.extra) or name.encode("cp437")).decode("utf-8")
    except UnicodeError:
        return None


def _unicode_path(extra: bytes) -> bytes | None:
    """Return the name in UTF-8 from the extra field that some programs write for it (0x7075)."""
    at = 0
    while at + 4 <= len(extra):
        end = at + 4 + int.from_bytes(extra[at + 2 : at + 4], "little")
        if extra[at : at + 2] == b"up":
            return extra[at + 9 : end]  # behind a version and a checksum
        at = end
    return None


def _reader(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Reader:
    def read(size: int = -1) -> bytes:
        try:
            # zipfile stops at the size that the directory states, so a lying size cannot expand.
            with archive.open(member) as file:
                return file.read(size)
        except Exception as error:  # each decompressor has exceptions of its own
            raise UnreadableFileError(f"damaged in the archive ({error})") from None

    return read
