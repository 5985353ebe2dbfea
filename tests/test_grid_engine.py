"""A study on a real Grid Engine of one node, with the profile workflow/profiles/cluster-generic."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import cluster_studies
from carbench.engines.engine_jobs import snakemake_plan
from carbench.engines.locks import named_lock
from cluster_studies import LOG, finish, long_training, read
from conftest import ROOT, Project, wait_for
from grid_engine import GridEngine, grid_engine, obstacle, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(obstacle() is not None, reason=str(obstacle())),
]

SCRIPTS = ROOT / "workflow/profiles/cluster-generic"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GridEngine]:
    """A Grid Engine; one at a time, also if several processes run these tests."""
    with (
        named_lock(tmp_path_factory.getbasetemp().parent, "grid-engine", on_wait=print),
        grid_engine() as started,
    ):
        yield started


def test_jobs_are_submitted_again_after_deletion_and_too_little_memory(
    engine: GridEngine, smoke_run: Project, tmp_path: Path
) -> None:
    """With more resources; a training resumes, and Snakemake records its outputs."""
    project = long_training(smoke_run, tmp_path / "study", 30)
    process = cluster_studies.start(
        *(engine.environment, project, "cluster-generic"),
        "results/evaluate/resnet/0/metrics.json",
        *("--set-resources", "evaluate:mem_mb=attempt**10"),
    )

    def requested() -> str:
        """What the only job requests, if it is a training."""
        job = next(iter(engine.jobs()), None)
        found = engine.job(job) if job else {}
        return found["hard resource_list"] if found.get("job_name") == "train" else ""

    try:
        wait_for(lambda: "epoch 3/" in read(project.root / LOG), process, 180)
        assert requested() == "h_rt=43200,h_vmem=9000M"
        engine.run("qdel", *engine.jobs())
        wait_for(lambda: requested() == "h_rt=86400,h_vmem=15000M", process)
        output = finish(process)
    finally:
        process.kill()
    log = read(project.root / LOG)
    assert log.count("epoch 1/30") == 1
    assert log.count("resuming after epoch") == 1
    assert len(re.findall("^Error in rule evaluate:", output, re.MULTILINE)) == 1
    assert not {"train@resnet-0", "evaluate@resnet-0"} & snakemake_plan(project.root)


def submit(
    engine: GridEngine, folder: Path, command: str, *, rule: str = "train", gpus: int = 0
) -> str:
    """Submit a command with two threads, 4 GB and a minute, and return the job's id."""
    script = folder / f"{len(list(folder.iterdir()))}.sh"
    script.write_text(f"#!/bin/sh\n{command}\n")
    return subprocess.run(
        [SCRIPTS / "submit.sh", rule, "2", "4000", "1", str(gpus), script],
        cwd=folder,
        env=engine.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def status(engine: GridEngine, job: str, **environment: str) -> str:
    """Return what the profile's script says about a job."""
    return subprocess.run(
        [SCRIPTS / "status.sh", job],
        env=engine.environment | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def final_status(engine: GridEngine, job: str) -> str:
    """Wait until a job has ended, and return what the script says then."""
    deadline = time.monotonic() + 120
    while (found := status(engine, job)) == "running":
        assert time.monotonic() < deadline, engine.jobs()
        time.sleep(0.2)
    return found


def test_a_job_has_what_it_requests_and_a_status(engine: GridEngine, tmp_path: Path) -> None:
    """Also if it cannot start, or the scheduler does not answer."""
    alone = submit(engine, tmp_path, "sleep 600", rule="cost", gpus=1)
    requested = engine.job(alone)["hard resource_list"]
    assert requested == "h_rt=60,mem_free=2000M,gpu=1,exclusive=true"
    wait_until(lambda: engine.jobs()[alone] == "r")
    assert status(engine, alone) == "running"
    assert status(engine, alone, SGE_QMASTER_PORT="1") == "running"

    succeeds = submit(engine, tmp_path, "python -c 'import carbench'")
    fails = submit(engine, tmp_path, "exit 3")
    removed = tmp_path / "removed"
    removed.mkdir()
    cannot_start = submit(engine, removed, "true")
    shutil.rmtree(removed)
    assert {engine.jobs()[job] for job in (succeeds, fails, cannot_start)} == {"qw"}

    subprocess.run([SCRIPTS / "cancel.sh", alone], env=engine.environment, check=True)
    takes_too_long = submit(engine, tmp_path, "sleep 600")
    assert final_status(engine, alone) == "failed"
    assert final_status(engine, succeeds) == "success"
    assert final_status(engine, fails) == "failed"
    assert final_status(engine, cannot_start) == "failed"
    assert final_status(engine, takes_too_long) == "failed"
    assert engine.jobs() == {}
