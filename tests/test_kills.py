"""Killed anywhere: jobs and engines, at random moments. benchmarks/kills.py does it 200 times."""

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

# A few jobs of every kind: files, a training, what reads folders.
JOBS_TO_REPEAT = ("split", "train@resnet-0", "evaluate@resnet-0", "choose", "plot@recall")


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_after_kills_the_results_are_the_same(
    engine: str, smoke_run: Project, tmp_path: Path
) -> None:
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


def test_what_a_killed_job_left_goes_also_when_its_result_comes_back(
    smoke_run: Project, tmp_path: Path
) -> None:
    """A job may die after it recorded its result, or while it brings one back."""
    project = copy_project(smoke_run, tmp_path / "study")
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = project.root / f"results/split/.incomplete-{socket.gethostname()}-{ended.pid}"
    left.mkdir()
    (left / "split.csv").write_text("image,")
    (project.root / "results/split/split.csv").unlink()
    project.run("snakemake", "results/split/split.csv")
    assert not left.exists()
