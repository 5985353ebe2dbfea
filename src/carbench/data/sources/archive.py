"""archive: a zip file, read without unpacking it. The file is not trusted."""

from __future__ import annotations

import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from carbench.core.errors import CarbenchError
from carbench.data.images.formats import HEADER_BYTES, detect_format
from carbench.data.sources.listing import (
    Listing,
    Reader,
    SourceFile,
    UnreadableFileError,
    empty_folders,
)
from carbench.params.data import DataParams

GIGABYTE = 1_000_000_000

# Compression methods by their number in the format. Python supports those it has a constant for.
METHOD_NAMES = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
SUPPORTED_METHODS = {
    getattr(zipfile, name)
    for name in ("ZIP_STORED", "ZIP_DEFLATED", "ZIP_BZIP2", "ZIP_LZMA", "ZIP_ZSTANDARD")
    if hasattr(zipfile, name)
}
IS_ENCRYPTED, IS_UTF8 = 0x1, 0x800
UNPACK_FIX = "unpack it yourself and use data.source: folder"


@contextmanager
def open_source(params: DataParams, scratch: Path) -> Iterator[Listing]:
    """Yield the listing of the zip file `data.path`."""
    with list_archive(Path(params.path), params.max_unpacked_gb) as listing:
        yield listing


@contextmanager
def list_archive(path: Path, max_unpacked_gb: float) -> Iterator[Listing]:
    """Open a zip file and yield its listing.

    Raises:
        CarbenchError: the file is not a zip, is encrypted, uses a compression method that Python
            does not support, unpacks to more than ``max_unpacked_gb``, or has a link, two entries
            with the same name, a name in an unknown encoding or a path outside its folder.
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
        _refuse_repeated_names(path, names)
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
            found="a name that is not UTF-8, although it is marked as UTF-8",
            expected="names in UTF-8",
            fix=UNPACK_FIX,
        ) from None
    except NotImplementedError as error:
        raise CarbenchError(
            path,
            found=f"a {error}, which Python cannot read",
            expected="a zip file of version 6.3 or older",
            fix=UNPACK_FIX,
        ) from None
    except Exception as error:  # damage raises OSError, struct.error, ValueError, ...
        with path.open("rb") as file:
            kind = detect_format(file.read(HEADER_BYTES))
        is_another = kind not in (None, "ZIP")
        raise CarbenchError(
            path,
            found=f"{kind}, not a zip file" if is_another else f"no readable zip file ({error})",
            expected="a complete zip file",
            fix=UNPACK_FIX if kind in ("RAR", "7z", "gzip") else "download it again",
        ) from None


def _refuse_repeated_names(path: Path, names: list[str]) -> None:
    for name, times in Counter(names).most_common(1):
        if times > 1:
            raise CarbenchError(
                path,
                key=name,
                found=f"{times} entries with this name",
                expected="unique names",
                fix=UNPACK_FIX,
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
    """Return the path of a member inside the archive; raise if it cannot be used."""

    def refused(found: str, expected: str, fix: str = UNPACK_FIX) -> CarbenchError:
        return CarbenchError(path, key=member.filename, found=found, expected=expected, fix=fix)

    name = _decoded_name(member)
    if name is None:
        raise refused(
            "a name in an unspecified encoding",
            "names in UTF-8",
        )
    name = name.replace("\\", "/")
    inside = PurePosixPath(name)
    drive = bool(inside.parts) and inside.parts[0].endswith(":")
    if inside.is_absolute() or drive or ".." in inside.parts:
        raise refused(
            "a path outside the archive's folder",
            "paths inside it",
            "do not use this archive: it may be malicious",
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise refused(
            "a symbolic link",
            "images",
            "unpack and inspect it, and use data.source: folder",
        )
    if member.flag_bits & IS_ENCRYPTED:
        raise refused("an encrypted file", "an archive without a password")
    if member.compress_type not in SUPPORTED_METHODS:
        method = METHOD_NAMES.get(member.compress_type, f"method {member.compress_type}")
        raise refused(f"a file compressed with {method}, which Python cannot read", "Deflate")
    return name


def _decoded_name(member: zipfile.ZipInfo) -> str | None:
    """Return the name, or None if its encoding is unknown.

    Without the UTF-8 flag, zipfile decodes names as code page 437. Many programs write UTF-8
    without the flag, others the encoding of their system (GBK, Shift-JIS).
    """
    name = member.filename
    if name.isascii() or member.flag_bits & IS_UTF8:
        return name
    try:
        return (_unicode_path(member.extra) or name.encode("cp437")).decode("utf-8")
    except UnicodeError:
        return None


def _unicode_path(extra: bytes) -> bytes | None:
    """Return the UTF-8 name in the Info-ZIP Unicode path extra field (0x7075)."""
    at = 0
    while at + 4 <= len(extra):
        end = at + 4 + int.from_bytes(extra[at + 2 : at + 4], "little")
        if extra[at : at + 2] == b"up":
            return extra[at + 9 : end]  # after version and checksum
        at = end
    return None


def _reader(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Reader:
    def read(size: int = -1) -> bytes:
        try:
            # zipfile reads no more than the size in the directory: no zip bomb.
            with archive.open(member) as file:
                return file.read(size)
        except Exception as error:  # decompressors have exceptions of their own
            raise UnreadableFileError(f"damaged in the archive ({error})") from None

    return read
