"""Job records, dvc.lock and the status of jobs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbench.core.errors import CarbenchError
from carbench.engines.content_store import ContentStore
from carbench.engines.dvc_lock_file import read_lock_file, write_lock_file
from carbench.engines.dvc_yaml import JobSpec
from carbench.engines.external_jobs import record_external_jobs
from carbench.engines.hashing import Content, HashCache
from carbench.engines.input_changes import describe_changes
from carbench.engines.job_records import JobInputs, JobRecord, find_record, save_record
from carbench.engines.snakemake_internals import SnakemakeMetadata
from carbench.engines.staleness import direct_upstream, explain_job
from carbench.engines.workspace import JobStatus, Workspace
from carbench.params.presets import apply_preset
from conftest import ROOT
from files import write_files

SCALARS = st.one_of(st.integers(-5, 5), st.booleans(), st.floats(-2, 2), st.text(max_size=3))
PARAMS = st.dictionaries(st.sampled_from("abc"), SCALARS, min_size=1)


def test_a_record_is_found_by_all_clones_that_share_a_cache(tmp_path: Path) -> None:
    store = ContentStore(tmp_path / "cache")
    record = JobRecord("train", JobInputs("c", {}, {}), {"a": Content("0" * 32, 1)}, (1.0, 2.0))
    key = record.inputs.key
    save_record(tmp_path / "one", record, store)
    assert find_record(tmp_path / "two", "train", key) is None
    assert find_record(tmp_path / "two", "train", key, store) == record
    assert find_record(tmp_path / "two", "test", key, store) is None


@given(PARAMS, PARAMS)
def test_the_key_and_the_description_change_exactly_if_parameters_do(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    one = JobInputs("command", {"train": before}, {"file": "md5"})
    other = JobInputs("command", {"train": after}, {"file": "md5"})
    same = before.keys() == after.keys() and all(
        before[key] == after[key] and isinstance(before[key], bool) == isinstance(after[key], bool)
        for key in before
    )
    assert (one.key == other.key) == same
    assert (list(describe_changes(one, other)) == []) == same
    shuffled = JobInputs("command", {"train": dict(reversed(before.items()))}, {"file": "md5"})
    assert shuffled.key == one.key


def test_swapped_values_and_renamed_files_change_the_key() -> None:
    one = JobInputs("command", {"lr": 1, "wd": 2}, {"a": "1", "b": "2"})
    assert one.key != JobInputs("command", {"lr": 2, "wd": 1}, {"a": "1", "b": "2"}).key
    assert one.key != JobInputs("command", {"lr": 1, "wd": 2}, {"a": "2", "b": "1"}).key
    assert one.key != JobInputs("other", {"lr": 1, "wd": 2}, {"a": "1", "b": "2"}).key


def test_damaged_caches_and_records_are_ignored(tmp_path: Path) -> None:
    (tmp_path / ".carbench").mkdir()
    (tmp_path / ".carbench/hashes.sqlite").write_bytes(b"no database" * 100)
    (tmp_path / "model").write_bytes(b"weights")
    os.utime(tmp_path / "model", (0, 0))
    hashes = HashCache(tmp_path)
    assert hashes.content("model") is not None
    hashes.save()
    record = JobRecord("train", JobInputs("c", {}, {}), {}, (1.0, 2.0))
    save_record(tmp_path, record)
    assert find_record(tmp_path, "train", record.inputs.key) == record
    (file,) = (tmp_path / ".carbench/records/train").iterdir()
    file.write_text(file.read_text()[:-20])
    assert find_record(tmp_path, "train", record.inputs.key) is None


OTHER = [
    b"",
    b"[]",
    b"null",
    b"\xff",
    b"[" * 100_000,
    b'{"version": 0, "content": {}}',
]


@pytest.mark.parametrize("content", [*OTHER, None], ids=lambda content: str(content)[:12])
def test_state_files_with_any_content_are_tolerated(
    tmp_path: Path, made: tuple[JobSpec, JobRecord, dict[str, Content]], content: bytes | None
) -> None:
    """Other versions, damaged files and folders (None) count as missing."""
    job, record, contents = made
    write_lock_file(tmp_path, {"split": (job, record, contents)})
    save_record(tmp_path, record)
    status = Workspace(tmp_path, ContentStore(tmp_path / "cache")).job_status(job)
    assert (status.up_to_date, status.in_dvc_lock, status.record) == (True, True, record)
    files = [path for path in (tmp_path / ".carbench").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"dvc-lock.json"}
    for path in [*files, tmp_path / ".carbench/hashes.sqlite"]:
        path.unlink(missing_ok=True)
        path.mkdir() if content is None else path.write_bytes(content)
    workspace = Workspace(tmp_path, ContentStore(tmp_path / "cache"))
    again = workspace.job_status(job)
    assert (again.up_to_date, again.in_dvc_lock) == (True, True)
    workspace.hashes.save()
    save_record(tmp_path, record)
    assert find_record(tmp_path, "split", record.inputs.key) == (
        record if content is not None else None
    )


@pytest.mark.parametrize(
    "damage",
    [
        {"job": "train"},
        {"outs": {"results/split/split.csv": {"md5": 5, "size": 1}}},
        {"times": [1e300, 1e300]},
        {"inputs": {"command": "other", "params": {}, "deps": {}}},
    ],
    ids=str,
)
def test_an_edited_record_is_ignored(tmp_path: Path, damage: dict[str, Any]) -> None:
    record = JobRecord("split", JobInputs("c", {}, {}), {"a": Content("0" * 32, 1)}, (1.0, 2.0))
    save_record(tmp_path, record)
    (file,) = (tmp_path / ".carbench/records/split").iterdir()
    document = json.loads(file.read_text())
    document["content"] |= damage
    file.write_text(json.dumps(document))
    assert find_record(tmp_path, "split", record.inputs.key) is None


def test_an_explanation_lists_all_causes(
    tmp_path: Path, made: tuple[JobSpec, JobRecord, dict[str, Content]]
) -> None:
    workspace = Workspace(tmp_path, ContentStore(tmp_path / "cache"))
    upstream = direct_upstream(workspace.jobs)
    statuses = {name: JobStatus(job, True, made[1], True) for name, job in workspace.jobs.items()}
    for name in ("fetch", "tune@resnet", "tune@mobilenet"):
        statuses[name] = JobStatus(workspace.jobs[name], False, None, False)
    lines = explain_job(workspace, statuses, "train@resnet-0", upstream).splitlines()
    assert lines[0] == "train@resnet-0 would run again if one of these changes what it reads:"
    assert [line.split(":")[0] for line in lines[1:]] == ["  fetch", "  tune@resnet"]
    lines = explain_job(workspace, statuses, "choose", upstream).splitlines()
    assert "tune@resnet" in "".join(lines)
    assert "tune@mobilenet" in "".join(lines)


@pytest.fixture
def made(tmp_path: Path) -> tuple[JobSpec, JobRecord, dict[str, Content]]:
    """A job of a study, its record, and the content of its inputs and outputs."""
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "params.yaml").write_text(apply_preset(ROOT / "presets/smoke.yaml"))
    workspace = Workspace(tmp_path, ContentStore(tmp_path / "cache"))
    job = workspace.jobs["split"]
    write_files(tmp_path, {path: path.encode() for path in (*job.deps, *job.outs)})
    inputs = workspace.inputs_of(job)
    assert inputs is not None
    contents = {path: workspace.content(path) for path in (*job.deps, *job.outs)}
    return (
        job,
        JobRecord("split", inputs, {path: contents[path] for path in job.outs}, (1.0, 2.0)),
        contents,
    )


def test_entries_of_other_jobs_in_dvc_lock_are_kept(
    tmp_path: Path, made: tuple[JobSpec, JobRecord, dict[str, Content]]
) -> None:
    """Replacing one job's text leaves all other text unchanged; entries read back as written."""
    job, record, contents = made
    inputs = record.inputs
    write_lock_file(tmp_path, {"split": (job, record, contents)})
    first = (tmp_path / "dvc.lock").read_text()
    workspace = Workspace(tmp_path, ContentStore(tmp_path / "cache"))
    assert (locked := workspace.lock_entry("split")) and locked.inputs.key == inputs.key
    assert workspace.job_status(job).in_dvc_lock

    other = JobSpec("other", "other", "echo 'a: b'", job.deps, job.params, job.outs, job.cached)
    named = JobRecord("other", JobInputs("echo 'a: b'", inputs.params, inputs.deps), record.outs)
    write_lock_file(tmp_path, {"other": (other, named, contents)})
    text = (tmp_path / "dvc.lock").read_text()
    assert text.startswith(first)
    assert set(read_lock_file(tmp_path).entries) == {"split", "other"}
    write_lock_file(tmp_path, {"split": (job, record, contents)})
    assert (tmp_path / "dvc.lock").read_text() == text

    (tmp_path / "dvc.lock").write_text("<<<<<<< HEAD\nschema: '2.0'\n")
    with pytest.raises(CarbenchError, match=r"dvc\.lock"):
        read_lock_file(tmp_path)


@pytest.mark.parametrize("left", ["", "sche", "schema: '2.0'\nstages:\n  split:\n    cmd: pyth"])
def test_an_incomplete_dvc_lock_is_rebuilt(
    tmp_path: Path, made: tuple[JobSpec, JobRecord, dict[str, Content]], left: str
) -> None:
    """DVC truncates the file before it writes it. Entries that were read before are cached."""
    job, record, contents = made
    write_lock_file(tmp_path, {"split": (job, record, contents)})
    assert read_lock_file(tmp_path).complete
    before = (tmp_path / "dvc.lock").read_text()
    (tmp_path / "dvc.lock").write_text(left)
    found = read_lock_file(tmp_path)
    assert not found.complete
    locked = Workspace(tmp_path, ContentStore(tmp_path / "cache")).lock_entry("split")
    assert locked and locked.inputs.key == record.inputs.key
    write_lock_file(tmp_path, {"split": (job, record, contents)})
    assert (tmp_path / "dvc.lock").read_text() == before
    (tmp_path / "dvc.lock").write_text(left)
    write_lock_file(tmp_path, {})
    assert not (tmp_path / "dvc.lock").exists()


EXTERNAL_STAGE = """
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
def test_an_external_command_is_recorded_if_its_inputs_did_not_change_while_it_ran(
    tmp_path: Path, edited: str | None, recorded: bool
) -> None:
    """For a command that is not a script of carbench, after Snakemake has run it."""
    files = {
        "dvc.yaml": EXTERNAL_STAGE,
        "params.yaml": "a: 1",
        "b.yaml": "c: 1",
        "data": "1",
        "own.csv": "2",
    }
    write_files(tmp_path, {name: text.encode() for name, text in files.items()})
    before = Workspace(tmp_path, ContentStore(tmp_path / "cache"))
    job = before.jobs["own"]
    time.sleep(0.02)
    began = time.time()
    SnakemakeMetadata(tmp_path).mark_up_to_date("own.csv", job, (began, began + 1))
    time.sleep(0.02)
    if edited in files:
        (tmp_path / edited).write_text(files[edited].replace("1", "3"))
    command = "program  data own.csv" if edited != "command" else "program data own.csv --more"
    ran = SimpleNamespace(output=["own.csv"], shellcmd=command)
    workspace = Workspace(tmp_path, ContentStore(tmp_path / "cache"))
    jobs = [] if edited == "later" else [ran]
    assert record_external_jobs(workspace, before, jobs) == recorded
    assert (
        Workspace(tmp_path, ContentStore(tmp_path / "cache")).job_status(job).up_to_date == recorded
    )
