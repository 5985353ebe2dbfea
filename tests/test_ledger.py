"""Receipts, hashes and the store: the laws that one result for either engine rests on."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbench.core.errors import CarbenchError
from carbench.engines.differences import differences
from carbench.engines.dvc_lock import read_lock, write_lock
from carbench.engines.dvc_yaml import JobSpec
from carbench.engines.hashing import Content, Hashes
from carbench.engines.plain import record_plain
from carbench.engines.records import Ingredients, Receipt, find_receipt, save_receipt
from carbench.engines.run_cache import Store
from carbench.engines.snakemake_internals import Records
from carbench.engines.why import explain, upstream
from carbench.engines.workspace import Proof, Workspace
from carbench.params.presets import apply_preset
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


@pytest.mark.parametrize("kind", ["hardlink", "symlink", "copy", "reflink"])
def test_results_hang_together_with_the_cache_as_dvc_is_told(tmp_path: Path, kind: str) -> None:
    """What git keeps is a file of its own in any case; where no link is possible, all is copied."""
    fill(tmp_path, {"model": b"weights", "data/a/1": b"1", "data/2": b"2"})
    store = Store(tmp_path / "cache", links=[kind])
    hashes = Hashes(tmp_path)
    for name in ("model", "data"):
        content = hashes.of(name)
        assert content is not None
        listing = hashes.listing("data") if name == "data" else None
        store.put(tmp_path / name, content, listing)
        store.link(tmp_path / name, [(path, each.md5) for path, each in listing or [("", content)]])
        assert store.bring(content, tmp_path / "back" if listing else tmp_path / "own")
        assert store.bring(content, tmp_path / f"copy of {name}", own=True)
        assert Hashes(tmp_path).of(name) == Hashes(tmp_path).of(f"copy of {name}") == content
    for path in ("model", "data/a/1", "data/2", "own"):
        place = tmp_path / path
        assert place.is_symlink() == (kind == "symlink"), path
        assert (place.stat().st_nlink > 1) == (kind == "hardlink"), path
    assert not (tmp_path / "copy of model").is_symlink()
    assert (tmp_path / "copy of model").stat().st_nlink == 1


@pytest.mark.parametrize("group", [False, True])
def test_the_cache_is_open_to_whom_dvc_opens_it(tmp_path: Path, group: bool) -> None:
    """DVC's ``cache.shared``: a group writes into all folders; else the umask counts."""
    (tmp_path / "model").write_bytes(b"weights")
    content = Hashes(tmp_path).of("model")
    assert content is not None
    store = Store(tmp_path / "cache", group=group)
    before = os.umask(0o027)
    try:
        store.put(tmp_path / "model", content, None)
        save_receipt(tmp_path, Receipt("train", Ingredients("c", {}, {}), {}), store)
        assert store.bring(content, tmp_path / "back")
    finally:
        os.umask(before)
    for path in (tmp_path / "cache").rglob("*"):
        mode = path.stat().st_mode & 0o7777
        if path.is_dir():
            assert mode == (0o2775 if group else 0o750), path
        elif path.suffix == ".json":
            assert mode == (0o664 if group else 0o640), path
        else:
            assert mode == 0o444, path  # as DVC's, which takes only this for protected
    assert (tmp_path / "back").stat().st_mode & 0o777 == 0o640


def test_a_receipt_is_found_by_all_clones_on_one_cache(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    receipt = Receipt("train", Ingredients("c", {}, {}), {"a": Content("0" * 32, 1)}, (1.0, 2.0))
    key = receipt.ingredients.key
    save_receipt(tmp_path / "one", receipt, store)
    assert find_receipt(tmp_path / "two", "train", key) is None
    assert find_receipt(tmp_path / "two", "train", key, store) == receipt
    assert find_receipt(tmp_path / "two", "test", key, store) is None


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
    monkeypatch.setattr("carbench.engines.hashing.UNSETTLED_NS", 0)
    path = tmp_path / "model"
    path.write_bytes(b"before")
    first = Hashes(tmp_path)
    known = first.of("model")
    first.save()
    found = path.stat()
    read: list[Path] = []
    monkeypatch.setattr("carbench.engines.hashing.file_md5", lambda path: read.append(path) or "x")
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
    receipt = Receipt("train", Ingredients("c", {}, {}), {}, (1.0, 2.0))
    save_receipt(tmp_path, receipt)
    assert find_receipt(tmp_path, "train", receipt.ingredients.key) == receipt
    (file,) = (tmp_path / ".carbench/receipts/train").iterdir()
    file.write_text(file.read_text()[:-20])
    assert find_receipt(tmp_path, "train", receipt.ingredients.key) is None


OTHER = [
    b"",
    b"[]",
    b"null",
    b"\xff",
    b"[" * 100_000,
    b'{"version": 0, "content": {}}',
]


@pytest.mark.parametrize("content", [*OTHER, None], ids=lambda content: str(content)[:12])
def test_what_is_remembered_may_hold_anything(
    tmp_path: Path, made: tuple[JobSpec, Receipt, dict[str, Content]], content: bytes | None
) -> None:
    """Of another version, damaged, or a folder (None): it is as if it were not there."""
    job, receipt, contents = made
    write_lock(tmp_path, {"split": (job, receipt, contents)})
    save_receipt(tmp_path, receipt)
    proof = Workspace(tmp_path, Store(tmp_path / "cache")).prove(job)
    assert (proof.proven, proof.locked, proof.witness) == (True, True, receipt)
    files = [path for path in (tmp_path / ".carbench").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"dvc-lock.json"}
    for path in [*files, tmp_path / ".carbench/hashes.sqlite"]:
        path.unlink(missing_ok=True)
        path.mkdir() if content is None else path.write_bytes(content)
    workspace = Workspace(tmp_path, Store(tmp_path / "cache"))
    again = workspace.prove(job)
    assert (again.proven, again.locked) == (True, True)
    workspace.hashes.save()
    save_receipt(tmp_path, receipt)
    assert find_receipt(tmp_path, "split", receipt.ingredients.key) == (
        receipt if content is not None else None
    )


@pytest.mark.parametrize(
    "damage",
    [
        {"job": "train"},
        {"outs": {"results/split/split.csv": {"md5": 5, "size": 1}}},
        {"times": [1e300, 1e300]},
        {"ingredients": {"command": "other", "params": {}, "deps": {}}},
    ],
    ids=str,
)
def test_a_receipt_that_was_edited_is_none(tmp_path: Path, damage: dict[str, Any]) -> None:
    receipt = Receipt("split", Ingredients("c", {}, {}), {"a": Content("0" * 32, 1)}, (1.0, 2.0))
    save_receipt(tmp_path, receipt)
    (file,) = (tmp_path / ".carbench/receipts/split").iterdir()
    document = json.loads(file.read_text())
    document["content"] |= damage
    file.write_text(json.dumps(document))
    assert find_receipt(tmp_path, "split", receipt.ingredients.key) is None


def test_hashes_of_another_form_are_forgotten(tmp_path: Path) -> None:
    (tmp_path / ".carbench").mkdir()
    (tmp_path / "model").write_bytes(b"weights")
    os.utime(tmp_path / "model", (0, 0))
    expected = Hashes(tmp_path, trust=False).of("model")
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
            hashes = Hashes(tmp_path)
            assert hashes.of("model") == expected
            hashes.save()


@pytest.mark.parametrize(
    ("name", "target", "found"),
    [
        (b"link.jpg", b"nowhere", "a link that leads nowhere"),
        (b"link.jpg", b"link.jpg", "symbolic links"),
        (b"loop", b".", "a link to a folder"),
        (b"\xff.jpg", None, "a name that is not UTF-8"),
        (b"pipe", None, "neither a file nor a folder"),
    ],
)
def test_what_dvc_cannot_compare_is_told(
    tmp_path: Path, name: bytes, target: bytes | None, found: str
) -> None:
    place = tmp_path / "data/audi" / os.fsdecode(name)
    fill(tmp_path, {"data/audi/1.jpg": b"1"})
    if target:
        place.symlink_to(os.fsdecode(target))
    elif name == b"pipe":
        os.mkfifo(place)
    else:
        place.write_bytes(b"2")
    with pytest.raises(CarbenchError, match=rf"^data/audi/.*: found .*{found}"):
        Hashes(tmp_path).of("data")


def test_a_reason_names_all_causes(
    tmp_path: Path, made: tuple[JobSpec, Receipt, dict[str, Content]]
) -> None:
    workspace = Workspace(tmp_path, Store(tmp_path / "cache"))
    above = upstream(workspace.jobs)
    proofs = {name: Proof(job, True, made[1], True) for name, job in workspace.jobs.items()}
    for name in ("fetch", "tune@resnet", "tune@mobilenet"):
        proofs[name] = Proof(workspace.jobs[name], False, None, False)
    lines = explain(workspace, proofs, "train@resnet-0", above).splitlines()
    assert lines[0] == "train@resnet-0 would run again if one of these changes what it reads:"
    assert [line.split(":")[0] for line in lines[1:]] == ["  fetch", "  tune@resnet"]
    lines = explain(workspace, proofs, "choose", above).splitlines()
    assert "tune@resnet" in "".join(lines)
    assert "tune@mobilenet" in "".join(lines)


@pytest.fixture
def made(tmp_path: Path) -> tuple[JobSpec, Receipt, dict[str, Content]]:
    """A job of a study, its receipt, and the content of all that it reads and has made."""
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "params.yaml").write_text(apply_preset(ROOT / "presets/smoke.yaml"))
    workspace = Workspace(tmp_path, Store(tmp_path / "cache"))
    job = workspace.jobs["split"]
    fill(tmp_path, {path: path.encode() for path in (*job.deps, *job.outs)})
    wanted = workspace.ingredients(job)
    assert wanted is not None
    contents = {path: workspace.content(path) for path in (*job.deps, *job.outs)}
    return (
        job,
        Receipt("split", wanted, {path: contents[path] for path in job.outs}, (1.0, 2.0)),
        contents,
    )


def test_the_lock_keeps_what_others_wrote(
    tmp_path: Path, made: tuple[JobSpec, Receipt, dict[str, Content]]
) -> None:
    """Replacing one job's text leaves all other text as it was; what was written reads back."""
    job, receipt, contents = made
    wanted = receipt.ingredients
    write_lock(tmp_path, {"split": (job, receipt, contents)})
    first = (tmp_path / "dvc.lock").read_text()
    workspace = Workspace(tmp_path, Store(tmp_path / "cache"))
    assert (locked := workspace.locked("split")) and locked.ingredients.key == wanted.key
    assert workspace.prove(job).locked

    other = JobSpec("other", "other", "echo 'a: b'", job.deps, job.params, job.outs, job.cached)
    named = Receipt("other", Ingredients("echo 'a: b'", wanted.params, wanted.deps), receipt.outs)
    write_lock(tmp_path, {"other": (other, named, contents)})
    text = (tmp_path / "dvc.lock").read_text()
    assert text.startswith(first)
    assert set(read_lock(tmp_path).entries) == {"split", "other"}
    write_lock(tmp_path, {"split": (job, receipt, contents)})
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
    write_lock(tmp_path, {"split": (job, receipt, contents)})
    assert read_lock(tmp_path).whole
    before = (tmp_path / "dvc.lock").read_text()
    (tmp_path / "dvc.lock").write_text(left)
    found = read_lock(tmp_path)
    assert not found.whole
    locked = Workspace(tmp_path, Store(tmp_path / "cache")).locked("split")
    assert locked and locked.ingredients.key == receipt.ingredients.key
    write_lock(tmp_path, {"split": (job, receipt, contents)})
    assert (tmp_path / "dvc.lock").read_text() == before
    (tmp_path / "dvc.lock").write_text(left)
    write_lock(tmp_path, {})
    assert not (tmp_path / "dvc.lock").exists()


PLAIN = """
stages:
  own: {cmd: "program data own.csv", deps: [data], params: [a, b.yaml: [c]], outs: [own.csv]}
"""


@pytest.mark.parametrize(
    ("edited", "recorded"),
    [
        (None, True),
        ("params.yaml", False),
        ("b.yaml", False),
        ("data", False),
        ("command", False),
        ("later", False),
    ],
)
def test_a_plain_stage_is_recorded_if_nothing_changed_while_it_ran(
    tmp_path: Path, edited: str | None, recorded: bool
) -> None:
    """After Snakemake has run a program that records nothing by itself."""
    files = {
        "dvc.yaml": PLAIN,
        "params.yaml": "a: 1",
        "b.yaml": "c: 1",
        "data": "1",
        "own.csv": "2",
    }
    fill(tmp_path, {name: text.encode() for name, text in files.items()})
    before = Workspace(tmp_path, Store(tmp_path / "cache"))
    job = before.jobs["own"]
    time.sleep(0.02)
    began = time.time()
    Records(tmp_path).accept("own.csv", job, (began, began + 1))
    time.sleep(0.02)
    if edited in files:
        (tmp_path / edited).write_text(files[edited].replace("1", "3"))
    command = "program  data own.csv" if edited != "command" else "program data own.csv --more"
    ran = SimpleNamespace(output=["own.csv"], shellcmd=command)
    workspace = Workspace(tmp_path, Store(tmp_path / "cache"))
    jobs = [] if edited == "later" else [ran]
    assert record_plain(workspace, before, jobs) == recorded
    assert Workspace(tmp_path, Store(tmp_path / "cache")).prove(job).proven == recorded
