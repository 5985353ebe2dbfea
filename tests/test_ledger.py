"""Receipts, hashes and the store: the laws that one result for either engine rests on."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbench.errors import CarbenchError
from carbench.ledger.definition import JobSpec
from carbench.ledger.differences import differences
from carbench.ledger.hashing import Content, Hashes
from carbench.ledger.lockfile import read_lock, write_lock
from carbench.ledger.receipts import Ingredients, Receipt, find_receipt, now, save_receipt
from carbench.ledger.store import Store
from carbench.ledger.workspace import Workspace
from conftest import ROOT

NAMES = st.text("abcxyz._- é", min_size=1, max_size=6).filter(
    lambda name: name.strip(". ") == name and name not in (".", "..")
)
FILES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=40), min_size=1
).filter(
    lambda files: (
        not any(other.startswith(f"{name}/") for name in files for other in files if other != name)
    )
)
SCALARS = st.one_of(st.integers(-5, 5), st.booleans(), st.floats(-2, 2), st.text(max_size=3))
PARAMS = st.dictionaries(st.sampled_from("abc"), SCALARS, min_size=1)


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@settings(max_examples=30, deadline=None)
@given(FILES)
def test_folders_and_files_hash_as_in_dvc(files: dict[str, bytes]) -> None:
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.local import LocalFileSystem

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        fill(root / "data", files)
        system = LocalFileSystem()
        database = HashFileDB(system, str(root / "cache"))
        _, meta, theirs = build(database, str(root / "data"), system, "md5")
        ours = Hashes(root).of("data")
        assert ours is not None
        assert (ours.md5, ours.size, ours.nfiles) == (
            theirs.hash_info.value,
            meta.size,
            meta.nfiles,
        )


@settings(max_examples=30, deadline=None)
@given(FILES)
def test_what_is_stored_comes_back(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        fill(root / "data", files)
        hashes, store = Hashes(root), Store(root / "cache")
        content = hashes.of("data")
        assert content is not None
        assert not store.has(content)
        store.put(root / "data", content, hashes.listing("data"))
        assert store.has(content)
        assert store.bring(content, root / "back")
        assert Hashes(root).of("back") == content
        assert store.damaged(content) == []


def test_a_damaged_object_is_not_brought_back_and_goes(tmp_path: Path) -> None:
    fill(tmp_path, {"model": b"weights"})
    hashes, store = Hashes(tmp_path), Store(tmp_path / "cache")
    content = hashes.of("model")
    assert content is not None
    store.put(tmp_path / "model", content, None)
    (place,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert not place.stat().st_mode & 0o222
    place.chmod(0o644)
    place.write_bytes(b"weighed")
    assert not store.bring(content, tmp_path / "back")
    assert not store.has(content)


@given(PARAMS, PARAMS)
def test_a_key_tells_parameters_apart_and_the_reason_names_them(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    one = Ingredients("command", {"train": before}, {"file": "md5"})
    other = Ingredients("command", {"train": after}, {"file": "md5"})
    same = before.keys() == after.keys() and all(
        before[key] == after[key] and isinstance(before[key], bool) == isinstance(after[key], bool)
        for key in before
    )
    assert (one.key == other.key) == same
    assert (list(differences(one, other)) == []) == same
    shuffled = Ingredients("command", {"train": dict(reversed(before.items()))}, {"file": "md5"})
    assert shuffled.key == one.key


def test_swapped_values_and_renamed_files_change_the_key() -> None:
    one = Ingredients("command", {"lr": 1, "wd": 2}, {"a": "1", "b": "2"})
    assert one.key != Ingredients("command", {"lr": 2, "wd": 1}, {"a": "1", "b": "2"}).key
    assert one.key != Ingredients("command", {"lr": 1, "wd": 2}, {"a": "2", "b": "1"}).key
    assert one.key != Ingredients("other", {"lr": 1, "wd": 2}, {"a": "1", "b": "2"}).key


def test_hashes_are_remembered_until_the_kernel_sees_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carbench.ledger.hashing.UNSETTLED_NS", 0)
    path = tmp_path / "model"
    path.write_bytes(b"before")
    first = Hashes(tmp_path)
    known = first.of("model")
    first.save()
    found = path.stat()
    read: list[Path] = []
    monkeypatch.setattr("carbench.ledger.hashing.file_md5", lambda path: read.append(path) or "x")
    assert Hashes(tmp_path).of("model") == known
    assert read == []
    path.write_bytes(b"behind")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    again = Hashes(tmp_path)
    assert again.of("model") != known
    assert again.forged == ["model"]
    assert Hashes(tmp_path, trust=False).of("model") != known


def test_what_changed_a_moment_ago_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"now")
    hashes = Hashes(tmp_path)
    hashes.of("model")
    hashes.save()
    assert not (tmp_path / ".carbench/hashes.sqlite").exists()


def test_a_damaged_memory_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / ".carbench").mkdir()
    (tmp_path / ".carbench/hashes.sqlite").write_bytes(b"no database" * 100)
    (tmp_path / "model").write_bytes(b"weights")
    os.utime(tmp_path / "model", (0, 0))
    hashes = Hashes(tmp_path)
    assert hashes.of("model") is not None
    hashes.save()
    receipt = Receipt("train", Ingredients("c", {}, {}), {}, now())
    save_receipt(tmp_path, receipt)
    assert find_receipt(tmp_path, "train", receipt.ingredients.key) == receipt
    (file,) = (tmp_path / ".carbench/receipts/train").iterdir()
    file.write_text(file.read_text()[:-20])
    assert find_receipt(tmp_path, "train", receipt.ingredients.key) is None


@pytest.fixture
def made(tmp_path: Path) -> tuple[JobSpec, Receipt, dict[str, Content]]:
    """A job of a study, its receipt, and the content of all that it reads and has made."""
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "params.yaml").write_text((ROOT / "presets/smoke.yaml").read_text())
    workspace = Workspace(tmp_path, Store(tmp_path / "cache"))
    job = workspace.jobs["split"]
    fill(tmp_path, {path: path.encode() for path in (*job.deps, *job.outs)})
    wanted = workspace.ingredients(job)
    assert wanted is not None
    contents = {path: workspace.content(path) for path in (*job.deps, *job.outs)}
    return (
        job,
        Receipt("split", wanted, {path: contents[path] for path in job.outs}, now()),
        contents,
    )


def test_the_lock_keeps_what_others_wrote(
    tmp_path: Path, made: tuple[JobSpec, Receipt, dict[str, Content]]
) -> None:
    """Replacing one job's text leaves all other text as it was; what was written reads back."""
    job, receipt, contents = made
    wanted = receipt.ingredients
    write_lock(tmp_path, {"split": (job, receipt, contents)}, whole=True)
    first = (tmp_path / "dvc.lock").read_text()
    assert read_lock(tmp_path).entries["split"].ingredients.key == wanted.key
    assert Workspace(tmp_path, Store(tmp_path / "cache")).prove(job).locked

    other = JobSpec("other", "other", "echo 'a: b'", job.deps, job.params, job.outs, job.cached)
    named = Receipt(
        "other", Ingredients("echo 'a: b'", wanted.params, wanted.deps), receipt.outs, ""
    )
    write_lock(tmp_path, {"other": (other, named, contents)}, whole=True)
    text = (tmp_path / "dvc.lock").read_text()
    assert text.startswith(first)
    assert set(read_lock(tmp_path).entries) == {"split", "other"}
    write_lock(tmp_path, {"split": (job, receipt, contents)}, whole=True)
    assert (tmp_path / "dvc.lock").read_text() == text

    (tmp_path / "dvc.lock").write_text("<<<<<<< HEAD\nschema: '2.0'\n")
    with pytest.raises(CarbenchError, match=r"dvc\.lock"):
        read_lock(tmp_path)


@pytest.mark.parametrize("left", ["", "sche", "schema: '2.0'\nstages:\n  split:\n    cmd: pyth"])
def test_a_lock_that_a_kill_cut_short_is_mended(
    tmp_path: Path, made: tuple[JobSpec, Receipt, dict[str, Content]], left: str
) -> None:
    """DVC empties the file before it writes it. What was read before is still known."""
    job, receipt, contents = made
    write_lock(tmp_path, {"split": (job, receipt, contents)}, whole=True)
    assert read_lock(tmp_path).whole
    before = (tmp_path / "dvc.lock").read_text()
    (tmp_path / "dvc.lock").write_text(left)
    found = read_lock(tmp_path)
    assert not found.whole
    assert found.entries["split"].ingredients.key == receipt.ingredients.key
    write_lock(tmp_path, {"split": (job, receipt, contents)}, found.whole)
    assert (tmp_path / "dvc.lock").read_text() == before
    (tmp_path / "dvc.lock").write_text(left)
    write_lock(tmp_path, {}, read_lock(tmp_path).whole)
    assert not (tmp_path / "dvc.lock").exists()
