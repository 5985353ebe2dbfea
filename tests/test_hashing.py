"""Hashes of files and folders are those of DVC and are cached until a file changes."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings

from carbench.core.errors import CarbenchError
from carbench.engines.hashing import HashCache
from files import FILES, write_files


@settings(max_examples=30, deadline=None)
@given(FILES)
def test_folders_and_files_hash_as_in_dvc(files: dict[str, bytes]) -> None:
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.local import LocalFileSystem

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_files(root / "data", files)
        system = LocalFileSystem()
        database = HashFileDB(system, str(root / "cache"))
        _, meta, theirs = build(database, str(root / "data"), system, "md5")
        ours = HashCache(root).content("data")
        assert ours is not None
        assert (ours.md5, ours.size, ours.nfiles) == (
            theirs.hash_info.value,
            meta.size,
            meta.nfiles,
        )


def test_hashes_are_cached_until_size_or_a_timestamp_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carbench.engines.hashing.UNSETTLED_NS", 0)
    path = tmp_path / "model"
    path.write_bytes(b"before")
    first = HashCache(tmp_path)
    known = first.content("model")
    first.save()
    found = path.stat()
    read: list[Path] = []
    monkeypatch.setattr("carbench.engines.hashing.file_md5", lambda path: read.append(path) or "x")
    assert HashCache(tmp_path).content("model") == known
    assert read == []
    path.write_bytes(b"behind")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    again = HashCache(tmp_path)
    assert again.content("model") != known
    assert again.edits_with_same_mtime == ["model"]
    assert HashCache(tmp_path, use_cached=False).content("model") != known


def test_hashes_of_files_that_just_changed_are_not_cached(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"now")
    hashes = HashCache(tmp_path)
    hashes.content("model")
    hashes.save()
    assert not (tmp_path / ".carbench/hashes.sqlite").exists()


def test_a_cache_of_another_format_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".carbench").mkdir()
    (tmp_path / "model").write_bytes(b"weights")
    os.utime(tmp_path / "model", (0, 0))
    expected = HashCache(tmp_path, use_cached=False).content("model")
    for statement in (
        "CREATE TABLE hashes (name TEXT)",
        "CREATE TABLE hashes (path, signature, md5)",
        "PRAGMA user_version = 1; CREATE TABLE hashes (path, signature)",
        "PRAGMA user_version = 1; CREATE TABLE hashes (path, signature, md5);"
        "INSERT INTO hashes VALUES ('model', x'00', 7), (NULL, 1, 2), ('model', 'a', 'b')",
        "PRAGMA user_version = 9; CREATE TABLE hashes (path, signature, md5)",
    ):
        (tmp_path / ".carbench/hashes.sqlite").unlink(missing_ok=True)
        with closing(sqlite3.connect(tmp_path / ".carbench/hashes.sqlite")) as database:
            database.executescript(statement)
        for _ in range(2):
            hashes = HashCache(tmp_path)
            assert hashes.content("model") == expected
            hashes.save()


@pytest.mark.parametrize(
    ("name", "target", "found"),
    [
        (b"link.jpg", b"nowhere", "a dangling link"),
        (b"link.jpg", b"link.jpg", "symbolic links"),
        (b"loop", b".", "a link to a folder"),
        (b"\xff.jpg", None, "a name that is not UTF-8"),
        (b"pipe", None, "neither a file nor a folder"),
    ],
)
def test_files_that_dvc_cannot_compare_are_reported(
    tmp_path: Path, name: bytes, target: bytes | None, found: str
) -> None:
    place = tmp_path / "data/audi" / os.fsdecode(name)
    write_files(tmp_path, {"data/audi/1.jpg": b"1"})
    if target:
        place.symlink_to(os.fsdecode(target))
    elif name == b"pipe":
        os.mkfifo(place)
    else:
        place.write_bytes(b"2")
    with pytest.raises(CarbenchError, match=rf"^data/audi/.*: found .*{found}"):
        HashCache(tmp_path).content("data")
