"""Versions and stages of the exported model, and getting a model by its stage."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bundles import write_bundle
from carbench.deploy.bundle.loading import load_bundle
from conftest import Project, copy_project
from service_process import CARBENCH

# A study whose only job copies a model. It has a remote, to which nothing has been pushed.
DEFINITION = """
stages:
  export:
    cmd: python scripts/export.py
    deps: [scripts/export.py, trained]
    params: [export]
    outs: [results/export]
artifacts:
  model: {path: results/export, type: model}
"""
SCRIPT = "import shutil; shutil.copytree('trained', 'results/export')\n"


def promote(study: Project, *arguments: str, status: int = 0) -> str:
    """Run the command, which has to end with this status; return its output."""
    done = subprocess.run(
        [*CARBENCH, "promote", *arguments],
        cwd=study.root,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == status, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def train(study: Project, scale: float, message: str) -> None:
    """Make another model and commit and push everything."""
    shutil.rmtree(study.root / "trained", ignore_errors=True)
    write_bundle(study.root / "trained", scale)
    study.run("dvc", "repro", "--quiet")
    study.run("git", "add", "--all")
    study.run("git", "commit", "--quiet", "--message", message)
    study.run("dvc", "push", "--quiet")
    study.run("git", "push", "--quiet", "origin", "main")


def publish(study: Project, printed: str) -> None:
    """Run the command that `carbench promote` has printed."""
    command = printed.partition("To publish it: ")[2].strip()
    assert command.startswith("git push origin")
    study.run("bash", "-c", command)


def get(study: Project, target: Path, *options: str) -> Path:
    """Get the model as a person does who has nothing but the address of the repository."""
    study.run(
        *("dvc", "artifacts", "get", str(study.root.parent / "origin.git"), "model"),
        *("--out", str(target), *options),
    )
    return target


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small study with a model that is committed and pushed. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("promotion")
    study = Project(folder / "study")
    (study.root / "scripts").mkdir(parents=True)
    (study.root / "scripts/export.py").write_text(SCRIPT)
    (study.root / "params.yaml").write_text("export: {}\n")
    (study.root / "dvc.yaml").write_text(DEFINITION)
    (study.root / "results").mkdir()
    (study.root / ".gitignore").write_text("/.carbench/\n")
    study.run("git", "init", "--quiet", "--initial-branch=main")
    study.run("git", "init", "--quiet", "--bare", "--initial-branch=main", "../origin.git")
    study.run("git", "remote", "add", "origin", "../origin.git")
    study.run("git", "config", "user.email", "tests@example.org")
    study.run("git", "config", "user.name", "tests")
    study.run("dvc", "init", "--quiet")
    (study.root / ".dvc/config.local").write_text("[core]\n    site_cache_dir = .dvc/tmp/site\n")
    study.run("dvc", "remote", "add", "--quiet", "--default", "storage", str(folder / "remote"))
    train(study, 1.0, "The first model")
    return study


@pytest.fixture
def study(trained: Project, tmp_path: Path) -> Project:
    for name in ("study", "origin.git", "remote"):
        shutil.copytree(trained.root.parent / name, tmp_path / name, symlinks=True)
    study = Project(tmp_path / "study")
    study.run("dvc", "remote", "modify", "storage", "url", str(tmp_path / "remote"))
    study.run("git", "commit", "--quiet", "--all", "--message=remote")
    study.run("git", "push", "--quiet", "origin", "main")
    return study


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name != ".snakemake_timestamp"
    }


def edited_code(study: Project) -> None:
    """An edit that changes no result: the export remains up to date."""
    script = study.root / "scripts/export.py"
    script.write_text(f"# Another comment.\n{SCRIPT}")
    study.run("dvc", "commit", "--force", "--quiet")
    study.run("git", "commit", "--quiet", "--message=lock", "dvc.lock")


def edited_parameters(study: Project) -> None:
    (study.root / "params.yaml").write_text("export: {seed: 1}\n")


def uncommitted_lock(study: Project) -> None:
    shutil.rmtree(study.root / "trained")
    write_bundle(study.root / "trained", 2.0)
    study.run("dvc", "repro", "--quiet")
    study.run("dvc", "push", "--quiet")


def unpushed_model(study: Project) -> None:
    uncommitted_lock(study)
    study.run("git", "commit", "--quiet", "--all", "--message=again")
    shutil.rmtree(study.root.parent / "remote")


def object_missing_on_the_remote(study: Project) -> None:
    largest = max(
        (path for path in (study.root.parent / "remote").rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    largest.unlink()


def no_remote(study: Project) -> None:
    study.run("dvc", "remote", "remove", "storage")
    study.run("git", "commit", "--quiet", "--all", "--message=no remote")


def uncommitted_remote(study: Project) -> None:
    study.run("dvc", "remote", "modify", "storage", "verify", "true")


def damaged_model(study: Project) -> None:
    path = study.root / "results/export/reference.npz"
    path.chmod(0o644)
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edited_code, "scripts/export.py: found changes that are not committed"),
        (edited_parameters, "export: found export.seed changed"),
        (uncommitted_lock, "dvc.lock: found changes that are not committed"),
        (unpushed_model, "remote storage: found 6 of 6 objects of results/export missing"),
        (object_missing_on_the_remote, "remote storage: found 1 of 6 objects"),
        (no_remote, ".dvc/config: core.remote: found nothing"),
        (uncommitted_remote, ".dvc/config: found changes that are not committed"),
        (damaged_model, "reference.npz: found a file that differs"),
    ],
)
def test_a_model_that_others_could_not_get_or_repeat_is_refused(
    study: Project, change: Callable[[Project], None], message: str
) -> None:
    change(study)
    assert message in promote(study, "prod", status=1)
    assert study.run("git", "tag").stdout == ""


def test_outside_of_a_study_the_command_says_so(tmp_path: Path) -> None:
    assert "found no git repository" in promote(Project(tmp_path), "prod", status=1)
    Project(tmp_path).run("git", "init", "--quiet")
    assert "results/export: found no model.json" in promote(Project(tmp_path), "prod", status=1)


def test_names_that_are_not_allowed_are_refused(study: Project) -> None:
    for stage in ("pr od", "prod!", ""):
        assert f"STAGE: found {stage!r}" in promote(study, stage, status=1)
    assert "'1.0' cannot be parsed" in promote(study, "prod", "--version", "1.0", status=1)
    (study.root / ".gto").write_text("stages: [staging, prod]\n")
    assert "expected one of staging, prod" in promote(study, "production", status=1)
    assert study.run("git", "tag").stdout == ""


def test_a_promotion_that_dvc_would_ignore_is_reported(study: Project) -> None:
    """DVC goes by the times of the tags; this one comes from a machine whose clock is ahead."""
    tag = "git tag --annotate 'model#prod#1' --message=x HEAD~1"
    study.run("bash", "-c", f"GIT_COMMITTER_DATE=2099-01-01T00:00:00Z {tag}")
    assert "model#prod#2: found an earlier tag" in promote(study, "prod", status=1)


@pytest.mark.slow
def test_models_are_got_by_stage_and_an_earlier_version_can_be_restored(
    study: Project, tmp_path: Path
) -> None:
    first = files(study.root / "results/export")
    printed = promote(study, "prod", "--version", "v1.0.0")
    version = load_bundle(study.root / "results/export").model.version
    assert f"v1.0.0 is {version}" in printed
    publish(study, printed)
    assert files(get(study, tmp_path / "1", "--stage", "prod")) == first
    assert "registered as v1.0.0" in promote(study, "prod", "--version", "v2.0.0", status=1)

    # A commit that leaves the model as it is needs no new version.
    (study.root / "README.md").write_text("Notes\n")
    study.run("git", "add", "--all")
    study.run("git", "commit", "--quiet", "--message=notes")
    assert "prod has this version already" in promote(study, "prod")

    train(study, 2.0, "The second model")
    second = files(study.root / "results/export")
    assert second != first
    publish(study, promote(study, "staging"))
    assert files(get(study, tmp_path / "2", "--stage", "prod")) == first
    assert files(get(study, tmp_path / "3", "--stage", "staging")) == second
    publish(study, promote(study, "prod"))
    assert files(get(study, tmp_path / "4", "--stage", "prod")) == second
    assert files(get(study, tmp_path / "5", "--rev", "v1.0.0")) == first

    # The working tree does not matter for a version that is registered.
    shutil.rmtree(study.root / "results/export")
    (study.root / "params.yaml").write_text("export: {seed: 1}\n")
    printed = promote(study, "prod", "--version", "v1.0.0")
    assert "prod is v1.0.0 now" in printed
    publish(study, printed)
    assert files(get(study, tmp_path / "6", "--stage", "prod")) == first
    assert files(get(study, tmp_path / "7")) == second  # the newest version
    tags = study.run("git", "tag", "--format=%(refname:short) %(contents:subject)").stdout
    assert set(tags.split("\n")) >= {f"model@v1.0.0 {version}", f"model#prod#4 {version}"}


@pytest.mark.slow
def test_a_registered_version_whose_content_is_lost_is_refused(study: Project) -> None:
    promote(study, "prod", "--version", "v1.0.0")
    train(study, 2.0, "The second model")
    promote(study, "prod")
    for path in (study.root.parent / "remote").rglob("*"):
        if path.is_file():
            path.unlink()
    assert "objects of results/export missing" in promote(
        study, "prod", "--version", "v1.0.0", status=1
    )
    # A tag that somebody has made by hand, of a commit without a study.
    empty = "git commit-tree -m empty $(git hash-object -w -t tree /dev/null)"
    study.run("bash", "-c", f"git tag --annotate model@v0.1.0 --message=x $({empty})")
    assert "no exported model" in promote(study, "prod", "--version", "v0.1.0", status=1)
    assert len(study.run("git", "tag").stdout.split()) == 5


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["smoke_run", "dvc_run"])
def test_the_results_of_either_engine_are_promoted_and_deployed(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    study = copy_project(request.getfixturevalue(engine), tmp_path / "study")
    study.run("git", "init", "--quiet", "--bare", "--initial-branch=main", "../origin.git")
    study.run("git", "remote", "add", "origin", str(tmp_path / "origin.git"))
    study.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "remote"))
    study.run("dvc", "push", "--quiet")
    assert "not committed" in promote(study, "prod", status=1)
    study.run("git", "add", "--all")
    study.run("git", "commit", "--quiet", "--message=results")
    publish(study, promote(study, "prod", "--version", "v1.0.0"))
    bundle = get(study, tmp_path / "bundle", "--stage", "prod")
    assert files(bundle) == files(study.root / "results/export")
    served = tmp_path / "served"
    study.run("carbench", "deploy", str(bundle), "--to", str(served))
    assert load_bundle(served / "current").model.metadata == load_bundle(bundle).model.metadata
