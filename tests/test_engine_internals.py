"""The internals of the engines that carbench uses are those of the pinned versions."""

from __future__ import annotations

import inspect
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from carbench.core.errors import CarbenchError
from carbench.engines import dvc_internals, engine_versions, snakemake_internals
from carbench.engines.dvc_config import cache_folder, dvc_flag, dvc_option
from carbench.engines.dvc_yaml import JobSpec, one_line, read_definition, read_jobs
from carbench.engines.engine_jobs import dvc_jobs
from carbench.engines.failed_jobs import describe_failed_jobs
from carbench.engines.snakemake_session import reject_unsafe_options, reject_untargeted_subprocess
from carbench.params.presets import apply_preset
from conftest import ROOT, Project

CHANGED = (
    "changed: adapt src/carbench/engines/*internals.py, the only modules that use it, then update "
    "the versions in engine_versions.py and in pyproject.toml"
)


JOB = JobSpec("x@1", "x", "command", (), (), ("results/x",), frozenset())


class Namespace:
    """An object with the given attributes."""

    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)


def test_the_installed_versions_are_the_supported_ones() -> None:
    requirements = (ROOT / "pyproject.toml").read_text()
    for package, written in (
        ("snakemake", engine_versions.SNAKEMAKE),
        ("dvc", engine_versions.DVC),
    ):
        assert version(package) == written, f"{package} {CHANGED}"
    assert f'"snakemake=={engine_versions.SNAKEMAKE}"' in requirements
    assert f'"dvc[gs]=={engine_versions.DVC}"' in requirements


def test_snakemakes_metadata_has_the_expected_form() -> None:
    from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord
    from snakemake.persistence.file import FilePersistence

    assert RECORD_FORMAT_VERSION == snakemake_internals.RECORD_FORMAT, (
        f"Snakemake's records {CHANGED}"
    )
    fields = {"rule", "input", "params", "code", "shellcmd", "incomplete", "input_checksums"}
    assert fields <= set(MetadataRecord.model_fields), f"Snakemake's MetadataRecord {CHANGED}"
    for name in ("_read_record", "_write_record", "_record_path", "_unmark_incomplete"):
        assert hasattr(FilePersistence, name), f"FilePersistence.{name} {CHANGED}"


def test_snakemake_follows_the_marks_of_up_to_date_and_stale_outputs(tmp_path: Path) -> None:
    from snakemake.io import _IOFile

    metadata = snakemake_internals.SnakemakeMetadata(tmp_path)
    rule = Namespace(shellcmd="new command", name="x")
    output = _IOFile("results/x", None)
    job = Namespace(
        output=[output], input=[], rule=rule, non_derived_params=["new"], log=[], conda_env=None
    )
    answers = {}
    for name, write in (
        ("up to date", lambda: metadata.mark_up_to_date("results/x", JOB, (1.0, 2.0))),
        ("stale", lambda: metadata.mark_stale("results/x", JOB, "because")),
        ("up to date again", lambda: metadata.mark_up_to_date("results/x", JOB, (1.0, 2.0))),
    ):
        write()
        asked = snakemake_internals.SnakemakeMetadata(tmp_path)._files  # as in another process
        assert asked.has_metadata(job)
        assert not asked.has_outdated_metadata(job)
        assert not any(asked.input_changed(job)), f"Snakemake's input_changed {CHANGED}"
        assert not any(asked.code_changed(job)), f"Snakemake's code_changed {CHANGED}"
        answers[name] = asked.params_changed(job)
    assert not answers["up to date"], f"Snakemake's params_changed {CHANGED}"
    assert not answers["up to date again"], f"Snakemake's params_changed {CHANGED}"
    assert answers["stale"], f"Snakemake's params_changed {CHANGED}"
    assert "because" in str(answers["stale"])
    record = metadata._files._read_record("results/x")
    assert (record.starttime, record.endtime) == (1.0, 2.0), "marking as stale keeps the times"
    metadata._files._mark_incomplete("results/x", None)
    snakemake_internals.SnakemakeMetadata(tmp_path).clear_incomplete("results/x")
    marked = snakemake_internals.SnakemakeMetadata(tmp_path)._files._filter_incomplete_keys(
        ["results/x"]
    )
    assert not marked, f"Snakemake's marks of incomplete files {CHANGED}"


@pytest.mark.parametrize("how", ["written elsewhere", "renamed", "another format"])
def test_metadata_that_snakemake_reads_differently_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """As with an incompatible version: it is reported before a stale result counts as current."""
    from snakemake.persistence import file

    if how == "written elsewhere":
        monkeypatch.setattr(file.FilePersistence, "_write_record", lambda *_: None)
    elif how == "renamed":
        monkeypatch.delattr(file.FilePersistence, "_write_record")
    else:
        monkeypatch.setattr("snakemake.persistence.RECORD_FORMAT_VERSION", 7)

    def write() -> None:
        snakemake_internals.SnakemakeMetadata(tmp_path).mark_stale("results/x", JOB, "because")

    with pytest.raises(CarbenchError, match=r"^snakemake .*unknown internals .*Fix: install"):
        write()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"starttime": "yesterday"}', "\udcff"])
def test_unreadable_metadata_is_replaced(tmp_path: Path, content: str) -> None:
    metadata = snakemake_internals.SnakemakeMetadata(tmp_path)
    metadata.mark_up_to_date("results/x", JOB, (1.0, 2.0))
    (place,) = (tmp_path / ".snakemake/metadata").iterdir()
    place.write_bytes(content.encode(errors="surrogateescape"))
    snakemake_internals.SnakemakeMetadata(tmp_path).mark_stale("results/x", JOB, "because")
    assert "because" in place.read_text()


def options(words: list[str] | None) -> snakemake_internals.SnakemakeOptions:
    return snakemake_internals.snakemake_options(words)


def workflow(**settings: object) -> Namespace:
    """Return the part of Snakemake's workflow object that exists while its Snakefile is read."""
    from snakemake.settings.types import StorageSettings, WorkflowSettings

    storage = StorageSettings(default_storage_provider=settings.pop("provider", None))
    return Namespace(workflow_settings=WorkflowSettings(**settings), storage_settings=storage)


@pytest.mark.parametrize(
    ("words", "settings", "found"),
    [
        (["--rerun-triggers", "mtime"], {}, "--rerun-triggers mtime"),
        (["-n", "--rerun-trigger", "input", "code"], {}, "--rerun-triggers code input"),
        (["--profile", "PROFILE"], {}, "--rerun-triggers mtime"),
        ([], {"persistence_backend": "DB"}, "--persistence-backend db"),
        ([], {"cache": ["train"]}, "--cache"),
        ([], {"consider_ancient": {"train": {"pack"}}}, "--consider-ancient train"),
        ([], {"provider": "fs"}, "--default-storage-provider fs"),
    ],
)
def test_options_that_hide_stale_results_are_rejected(
    words: list[str], settings: dict[str, Any], found: str, tmp_path: Path
) -> None:
    from snakemake.settings.enums import PersistenceBackend

    (tmp_path / "config.yaml").write_text("rerun-triggers: mtime\n")
    words = [str(tmp_path) if word == "PROFILE" else word for word in words]
    if "persistence_backend" in settings:
        settings["persistence_backend"] = PersistenceBackend[settings["persistence_backend"]]
    with pytest.raises(CarbenchError, match=f"^snakemake: found {found};"):
        reject_unsafe_options(options(words), workflow(**settings))


def test_other_options_are_accepted() -> None:
    for words in (["--touch"], ["--ignore-incomplete", "--nolock", "--no-hooks"], None):
        reject_unsafe_options(options(words), workflow())
    reject_untargeted_subprocess(["snakemake", "--mode", "subprocess", "--target-jobs", "split:"])
    with pytest.raises(CarbenchError, match="--mode"):
        reject_untargeted_subprocess(["snakemake", "--mode", "subprocess"])


@pytest.mark.parametrize(
    ("words", "again", "read_only"),
    [
        ("-kR cost", {"cost"}, False),
        ("--forcerun cost train -n", {"cost", "train"}, True),
        ("-kn", set(), True),
        ("-j 2 results/report.html -f", {"results/report.html"}, False),
        ("-F", {"all"}, False),
        ("--summary", set(), True),
        ("--report page.html", set(), True),
        ("--report page.html --report-after-run", set(), False),
        ("--touch", set(), False),
    ],
)
def test_command_lines_are_parsed_as_by_snakemake(
    words: str, again: set[str], read_only: bool
) -> None:
    found = options(words.split())
    assert (found.forced, found.read_only) == (again, read_only)


def test_locks_are_shared_with_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While carbench writes results/, a stage of DVC that writes there names it and fails."""
    from dvc.exceptions import DvcException
    from dvc.fs import localfs
    from dvc.lock import LockError, make_lock
    from dvc.rwlock import rwlock

    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    names = list(inspect.signature(rwlock).parameters)
    assert names == ["tmp_dir", "fs", "cmd", "read", "write", "hardlink"], f"dvc.rwlock {CHANGED}"
    stage = (str(tmp_path / ".dvc/tmp"), localfs, "dvc repro", [])
    written = [str(tmp_path / "results/split/split.csv")]

    def write() -> None:
        with dvc_internals.results_write_lock(tmp_path, "snakemake"):
            pass

    with (
        dvc_internals.results_write_lock(tmp_path, "snakemake"),
        pytest.raises(LockError, match="snakemake"),
        rwlock(*stage, written, False),
    ):
        pass
    with rwlock(*stage, written, False), pytest.raises(BlockingIOError, match="dvc repro"):
        write()
    with dvc_internals.dvc_repo_lock(tmp_path):
        monkeypatch.setattr(dvc_internals, "DVC_LOCK_TIMEOUT", 0.0)
        monkeypatch.setattr("dvc.lock.DEFAULT_TIMEOUT", 0.0)
        with pytest.raises(BlockingIOError):
            write()
        with pytest.raises(LockError):
            make_lock(str(tmp_path / ".dvc/tmp/lock")).lock()
    theirs = make_lock(str(tmp_path / ".dvc/tmp/lock"))
    theirs.lock()
    with pytest.raises(BlockingIOError), dvc_internals.dvc_repo_lock(tmp_path):
        pass
    theirs.unlock()
    with rwlock(*stage, written, False):
        assert not dvc_internals.repair_rwlock(tmp_path)
    (tmp_path / ".dvc/tmp/rwlock").write_text("")  # as a kill may leave it
    with pytest.raises(DvcException, match="corrupted"), rwlock(*stage, written, False):
        pass
    assert dvc_internals.repair_rwlock(tmp_path)
    for content in ("", "[]", '{"write": 3}', "\udcff"):
        (tmp_path / ".dvc/tmp/rwlock").write_bytes(content.encode(errors="surrogateescape"))
        write()
    with rwlock(*stage, written, False):
        pass
    for left in (tmp_path / ".dvc/tmp").iterdir():  # of the other kind of lock
        left.unlink()
    (tmp_path / ".dvc/config").write_text("[core]\n    hardlink_lock = true\n")
    with (
        dvc_internals.results_write_lock(tmp_path, "snakemake"),
        pytest.raises(LockError, match="snakemake"),
        rwlock(*stage, written, True),
    ):
        pass


def test_the_last_message_of_a_failed_job_is_shown(tmp_path: Path) -> None:
    job = snakemake_internals.FailedJob("train", "train resnet 0", "0.log")
    log = tmp_path / "0.log"
    epochs = [f"train resnet 0: epoch {number}/500" for number in range(500)]
    error = "train resnet 0: train.lr: found 9.0"
    log.write_text("\n".join([*epochs, error]))
    shown = describe_failed_jobs(tmp_path, [job])
    assert shown == f"train resnet 0 failed: the end of 0.log:\n  {error}\n"
    bug = ["train resnet 0: this is a bug in carbench", "Traceback:", "  train.py", "ValueError"]
    log.write_text("\n".join([*epochs, *bug]))
    assert describe_failed_jobs(tmp_path, [job]).splitlines()[1:] == [f"  {line}" for line in bug]
    log.unlink()
    assert "nothing in 0.log" in describe_failed_jobs(tmp_path, [job])
    assert "no log" in describe_failed_jobs(tmp_path, [replace(job, log=None)])


def test_dvc_yaml_is_resolved_as_by_dvc(shipped: Project) -> None:
    ours, theirs = read_jobs(shipped.root), dvc_jobs(shipped.root)
    assert set(ours) == set(theirs)
    for name, job in ours.items():
        assert job.command == theirs[name].command
        assert set(job.deps) == theirs[name].inputs
        assert set(job.outs) == theirs[name].outputs
        assert set(job.params) == set(theirs[name].params)


# User-defined stages with many features of dvc.yaml.
OWN = """
vars:
  - folder: results
stages:
  plots: {cmd: a, plots: [p.csv: {x: a}, r.csv], outs: [o1: {}, o2: {persist: true}]}
  git: {cmd: a, metrics: [m.json: {cache: false}], deps: [./x/, y]}
  block:
    cmd: |
      one
      two
    outs: [b]
  files: {cmd: a, params: [report.title, own.yaml: [low, deep.er]], outs: [f]}
  each: {foreach: [true, 0.5, word], do: {cmd: "a ${item}", outs: ["e/${item}"]}}
  named: {foreach: {a: {n: 1}}, do: {cmd: "a ${key} ${item.n}", outs: ["n/${key}"]}}
  numbered: {foreach: [{n: 1}, {n: 2}], do: {cmd: "a ${item.n}", outs: ["c/${item.n}"]}}
  grid:
    matrix: {size: [1, 2], kind: [{n: x}, {n: y}], name: "${backbones}"}
    cmd: a ${item.size} ${item.kind.n} ${item.name}
    outs: ["g/${item.size}/${item.kind.n}/${item.name}"]
  templated: {cmd: "a ${data.source} ${train.ema} ${train.fused}", outs: ["t/${data.source}.csv"]}
  left_list: {cmd: [a, b], outs: [l1]}
  left_wdir: {cmd: a, wdir: src, outs: [l2]}
  left_vars: {cmd: "a ${folder}", outs: ["${folder}/l3"]}
  left_own_vars: {cmd: "a ${x}", vars: [{x: 1}], outs: [l4]}
  left_frozen: {cmd: a, frozen: true, outs: [l5]}
  left_always: {cmd: a, always_changed: true, outs: [l6]}
  left_index: {cmd: "a ${seeds[0]}", outs: [l7]}
  left_dict: {cmd: "a ${pack}", outs: [l8]}
  left_nothing: {cmd: a, deps: [z]}
  left_far: {cmd: a, deps: ["https://example.org/x"], outs: [l9]}
  left_escaped: {cmd: 'a \\${b}', outs: [l10]}
  left_params: {cmd: a, params: [own.yaml: ], outs: [l11]}
"""


def test_user_defined_stages_are_resolved_as_by_dvc_or_unsupported(tmp_path: Path) -> None:
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / "src").mkdir()
    (tmp_path / "dvc.yaml").write_text(OWN)
    (tmp_path / "own.yaml").write_text("low: 1\ndeep: {er: 2}\n")
    (tmp_path / "params.yaml").write_text(apply_preset(ROOT / "presets/smoke.yaml"))
    found = read_definition(tmp_path)
    theirs = dvc_jobs(tmp_path)
    stages = {name.split("@")[0] for name in theirs}
    assert set(found.unsupported_stages) == {name for name in stages if name.startswith("left_")}
    assert set(found.jobs) == {name for name in theirs if not name.startswith("left_")}
    for name, job in found.jobs.items():
        assert one_line(job.command) == theirs[name].command, name
        assert set(job.deps) == theirs[name].inputs, name
        assert set(job.outs) == theirs[name].outputs, name
        assert set(job.params) == set(theirs[name].params), name
    assert found.jobs["git"].cached == set()
    assert found.jobs["plots"].cached == {"p.csv", "r.csv", "o1", "o2"}


@pytest.mark.parametrize(
    "stages",
    ["", "[]", "{s: }", "{s: a}", "{s: {}}", "{s: {cmd: a, outs: [1]}}"],
)
def test_malformed_stages_are_unsupported_or_reported(tmp_path: Path, stages: str) -> None:
    (tmp_path / "dvc.yaml").write_text(f"stages: {stages}\n")
    (tmp_path / "params.yaml").write_text("a: 1\n")
    try:
        assert read_definition(tmp_path).unsupported_stages.keys() == {"s"}
    except CarbenchError as error:
        assert "dvc.yaml: stages: found a" in str(error)


@pytest.mark.parametrize("place", ["default", "repository", "clone", "user"])
def test_the_cache_folder_is_that_of_dvc(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.repo import Repo

    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "user"))
    (tmp_path / "user").mkdir()
    root = tmp_path / "repository"
    root.mkdir()
    Repo.init(str(root), no_scm=True).close()
    files = {
        "repository": root / ".dvc/config",
        "clone": root / ".dvc/config.local",
        "user": tmp_path / "user/config",
    }
    if place in files:
        with files[place].open("a") as file:
            file.write("[cache]\n    dir = ../../elsewhere\n")
    with Repo(str(root)) as repo:
        theirs = Path(repo.cache.local.path)
        assert (cache_folder(root) / "files/md5").resolve() == theirs.resolve()


def test_options_are_read_as_by_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "user"))
    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / ".dvc/config").write_text(
        "[core]\n    no_scm = True\n    hardlink_lock = True\n"
        "[cache]\n    type = 'hardlink,symlink'\n"
    )
    (tmp_path / ".dvc/config.local").write_text("[cache]\n    shared = Group\n")
    with Repo(str(tmp_path)) as repo:
        cache = repo.config["cache"]
        assert dvc_option(tmp_path, "cache", "type").split(",") == cache["type"]
        assert dvc_option(tmp_path, "cache", "shared") == cache["shared"]
        assert dvc_flag(tmp_path, "core", "hardlink_lock") == repo.config["core"]["hardlink_lock"]
    (tmp_path / ".dvc/config").write_text("[core\n")
    with pytest.raises(CarbenchError, match="expected DVC's configuration"):
        cache_folder(tmp_path)
