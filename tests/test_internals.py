"""What carbench knows of the engines from the inside is still so; else this says what moved."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from pathlib import Path

import pytest

from carbench.interop import internals
from carbench.interop.cache import cache_folder
from carbench.interop.jobs import dvc_jobs
from carbench.ledger.definition import read_jobs
from conftest import ROOT, Project

MOVED = (
    "moved: look at src/carbench/interop/internals.py, the only module that uses it, then raise "
    "the versions there and in pyproject.toml"
)


class Bare:
    """An object with attributes that Snakemake may remember by."""

    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)


def test_versions_are_those_that_the_internals_were_written_against() -> None:
    requirements = (ROOT / "pyproject.toml").read_text()
    for package, written in (("snakemake", internals.SNAKEMAKE), ("dvc", internals.DVC)):
        assert version(package) == written, f"{package} {MOVED}"
    assert f'"snakemake=={internals.SNAKEMAKE}"' in requirements
    assert f'"dvc[gs]=={internals.DVC}"' in requirements


def test_snakemakes_records() -> None:
    from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord
    from snakemake.persistence.file import FilePersistence

    assert RECORD_FORMAT_VERSION == internals.RECORD_FORMAT, f"Snakemake's records {MOVED}"
    fields = {"rule", "input", "params", "code", "shellcmd", "incomplete", "input_checksums"}
    assert fields <= set(MetadataRecord.model_fields), f"Snakemake's MetadataRecord {MOVED}"
    for name in ("_read_record", "_write_record", "_record_path", "_unmark_incomplete"):
        assert hasattr(FilePersistence, name), f"FilePersistence.{name} {MOVED}"


def test_an_accepted_record_is_never_outdated_and_a_refused_one_always(tmp_path: Path) -> None:
    from snakemake.io import _IOFile

    records = internals.Records(tmp_path)
    rule = Bare(shellcmd="new command", name="x")
    output = _IOFile("results/x", None)
    job = Bare(
        output=[output], input=[], rule=rule, non_derived_params=["new"], log=[], conda_env=None
    )
    answers = {}
    for name, write in (
        ("accepted", lambda: records.accept("results/x", "x", "command", 1.0)),
        ("refused", lambda: records.refuse("results/x", "x", "because")),
        ("accepted again", lambda: records.accept("results/x", "x", "command", 1.0)),
    ):
        write()
        asked = internals.Records(tmp_path)._files  # as another process sees it
        assert asked.has_metadata(job)
        assert not asked.has_outdated_metadata(job)
        assert not any(asked.input_changed(job)), f"Snakemake's input_changed {MOVED}"
        assert not any(asked.code_changed(job)), f"Snakemake's code_changed {MOVED}"
        answers[name] = asked.params_changed(job)
    assert not answers["accepted"], f"Snakemake's params_changed {MOVED}"
    assert not answers["accepted again"], f"Snakemake's params_changed {MOVED}"
    assert answers["refused"], f"Snakemake's params_changed {MOVED}"
    assert "because" in str(answers["refused"])
    records._files._mark_incomplete("results/x", None)
    internals.Records(tmp_path).complete("results/x")
    marked = internals.Records(tmp_path)._files._filter_incomplete_keys(["results/x"])
    assert not marked, f"Snakemake's marks of incomplete files {MOVED}"


def test_dvcs_locks(tmp_path: Path) -> None:
    """While results/ are written, a stage of DVC that writes there stops and names the process."""
    from dvc.exceptions import DvcException
    from dvc.fs import localfs
    from dvc.lock import LockError
    from dvc.rwlock import rwlock

    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    names = list(inspect.signature(rwlock).parameters)
    assert names == ["tmp_dir", "fs", "cmd", "read", "write", "hardlink"], f"dvc.rwlock {MOVED}"
    stage = (str(tmp_path / ".dvc/tmp"), localfs, "dvc repro", [])
    written = [str(tmp_path / "results/split/split.csv")]

    def write() -> None:
        with internals.writing_results(tmp_path, "snakemake"):
            pass

    with (
        internals.writing_results(tmp_path, "snakemake"),
        pytest.raises(LockError, match="snakemake"),
        rwlock(*stage, written, False),
    ):
        pass
    with rwlock(*stage, written, False), pytest.raises(BlockingIOError, match="dvc repro"):
        write()
    with internals.dvc_lock(tmp_path), pytest.raises(BlockingIOError):
        write()
    with rwlock(*stage, written, False):
        assert not internals.mend_rwlock(tmp_path)
    (tmp_path / ".dvc/tmp/rwlock").write_text("")  # as a kill may leave it
    with pytest.raises(DvcException, match="corrupted"), rwlock(*stage, written, False):
        pass
    assert internals.mend_rwlock(tmp_path)
    (tmp_path / ".dvc/tmp/rwlock").write_text("")
    write()
    with rwlock(*stage, written, False):
        pass


def test_the_table_of_jobs_is_dvcs(shipped: Project) -> None:
    ours, theirs = read_jobs(shipped.root), dvc_jobs(shipped.root)
    assert set(ours) == set(theirs)
    for name, job in ours.items():
        assert job.command == theirs[name].command
        assert set(job.deps) == theirs[name].inputs
        assert set(job.outs) == theirs[name].outputs
        assert set(job.params) == set(theirs[name].params)


@pytest.mark.parametrize("place", ["default", "repository", "clone", "user"])
def test_the_cache_is_where_dvc_says(
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
