"""Jobs and engines killed at random moments; benchmarks/kills.py does it 200 times."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from kills import finish, problems, run_and_kill

from carbench.engines.dvc_yaml import read_jobs
from conftest import Project, copy_project, repeatable

pytestmark = pytest.mark.slow

# Jobs of several kinds: on single files, a training run, on folders.
JOBS_TO_REPEAT = ("split", "train@resnet-0", "choose", "plot@recall")


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_results_are_the_same_after_kills(engine: str, smoke_run: Project, tmp_path: Path) -> None:
    project = copy_project(smoke_run, tmp_path / "study")
    expected = repeatable(project)
    jobs = read_jobs(project.root)
    for name in JOBS_TO_REPEAT:
        for folder in (".carbench", ".dvc/cache/carbench"):
            shutil.rmtree(project.root / folder / "records" / name)
        for path in jobs[name].outs:
            (project.root / path).unlink()
    (project.root / "dvc.lock").unlink()
    project.run("carbench", "sync")
    rng = random.Random(engine)
    killed = [run_and_kill(project, engine, rng)[0] for _ in range(2)]
    assert any(killed)
    finish(project, engine)
    finish(project, "snakemake")
    assert problems(project, expected) == []


def test_staging_folders_of_killed_jobs_are_removed_when_outputs_are_restored(
    smoke_run: Project, tmp_path: Path
) -> None:
    """A job may be killed after it recorded its outputs, or while it restores them."""
    project = copy_project(smoke_run, tmp_path / "study")
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = [
        project.root / f"results/split/.incomplete-{owner}~{host}~{ended.pid}"
        for owner, host in (("", socket.gethostname()), ("split", "another-host"))
    ]
    for each in left:
        each.mkdir()
        (each / "split.csv").write_text("image,")
    (project.root / "results/split/split.csv").unlink()
    project.run("snakemake", "results/split/split.csv")
    assert not any(each.exists() for each in left)
