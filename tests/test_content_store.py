"""The content store restores what was stored, with DVC's layout, links and permissions."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from carbench.engines.content_store import ContentStore
from carbench.engines.hashing import HashCache
from carbench.engines.job_records import JobInputs, JobRecord, save_record
from files import FILES, write_files


@settings(max_examples=30, deadline=None)
@given(FILES)
def test_stored_content_can_be_restored(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_files(root / "data", files)
        hashes, store = HashCache(root), ContentStore(root / "cache")
        content = hashes.content("data")
        assert content is not None
        assert not store.has(content)
        store.add(root / "data", content, hashes.listing("data"))
        assert store.has(content)
        assert store.restore(content, root / "back")
        assert HashCache(root).content("back") == content
        assert store.remove_damaged(content) == []


def test_a_damaged_object_is_not_restored_and_is_removed(tmp_path: Path) -> None:
    write_files(tmp_path, {"model": b"weights"})
    hashes, store = HashCache(tmp_path), ContentStore(tmp_path / "cache")
    content = hashes.content("model")
    assert content is not None
    store.add(tmp_path / "model", content, None)
    (place,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert not place.stat().st_mode & 0o222
    place.chmod(0o644)
    place.write_bytes(b"weighed")
    assert not store.restore(content, tmp_path / "back")
    assert not store.has(content)


@pytest.mark.parametrize("kind", ["hardlink", "symlink", "copy", "reflink"])
def test_results_are_linked_to_the_cache_as_configured_in_dvc(tmp_path: Path, kind: str) -> None:
    """Files tracked by git are always copied, and all files are where no link is possible."""
    write_files(tmp_path, {"model": b"weights", "data/a/1": b"1", "data/2": b"2"})
    store = ContentStore(tmp_path / "cache", links=[kind])
    hashes = HashCache(tmp_path)
    for name in ("model", "data"):
        content = hashes.content(name)
        assert content is not None
        listing = hashes.listing("data") if name == "data" else None
        store.add(tmp_path / name, content, listing)
        store.replace_with_links(
            tmp_path / name, [(path, each.md5) for path, each in listing or [("", content)]]
        )
        assert store.restore(content, tmp_path / "back" if listing else tmp_path / "own")
        assert store.restore(content, tmp_path / f"copy of {name}", force_copy=True)
        assert (
            HashCache(tmp_path).content(name)
            == HashCache(tmp_path).content(f"copy of {name}")
            == content
        )
    for path in ("model", "data/a/1", "data/2", "own"):
        place = tmp_path / path
        assert place.is_symlink() == (kind == "symlink"), path
        assert (place.stat().st_nlink > 1) == (kind == "hardlink"), path
    assert not (tmp_path / "copy of model").is_symlink()
    assert (tmp_path / "copy of model").stat().st_nlink == 1


@pytest.mark.parametrize("group", [False, True])
def test_permissions_in_the_cache_are_those_of_dvc(tmp_path: Path, group: bool) -> None:
    """With ``cache.shared = group`` the group can write to all folders; else the umask applies."""
    (tmp_path / "model").write_bytes(b"weights")
    content = HashCache(tmp_path).content("model")
    assert content is not None
    store = ContentStore(tmp_path / "cache", group=group)
    before = os.umask(0o027)
    try:
        store.add(tmp_path / "model", content, None)
        save_record(tmp_path, JobRecord("train", JobInputs("c", {}, {}), {}), store)
        assert store.restore(content, tmp_path / "back")
    finally:
        os.umask(before)
    for path in (tmp_path / "cache").rglob("*"):
        mode = path.stat().st_mode & 0o7777
        if path.is_dir():
            assert mode == (0o2775 if group else 0o750), path
        elif path.suffix == ".json":
            assert mode == (0o664 if group else 0o640), path
        else:
            assert mode == 0o444, path  # DVC considers only this mode protected
    assert (tmp_path / "back").stat().st_mode & 0o777 == 0o640
