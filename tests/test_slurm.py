"""A study on a real Slurm cluster of two nodes, with the profile workflow/profiles/slurm."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbench.engines.engine_jobs import dvc_plan, snakemake_plan
from carbench.engines.locks import named_lock
from carbench.params.presets import apply_preset
from conftest import ROOT, Project, copy_project, copy_repository, repeatable, set_key, wait_for
from slurm_cluster import SlurmCluster, obstacle, slurm_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(obstacle() is not None, reason=str(obstacle())),
]

SNAKEMAKE = ("snakemake", "--workflow-profile", "workflow/profiles/slurm", "--jobs", "4")
# For a cluster without a network, and jobs of seconds.
QUICKLY = ("--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "1")
MODEL = "results/train/resnet/0/model.safetensors"
LOG = "results/logs/train/resnet/0.log"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A cluster; one at a time, also if several processes run these tests."""
    with (
        named_lock(tmp_path_factory.getbasetemp().parent, "slurm", on_wait=print),
        slurm_cluster() as started,
    ):
        yield started


def start(cluster: SlurmCluster, project: Project, *arguments: str) -> subprocess.Popen[str]:
    """Start Snakemake with the profile."""
    return subprocess.Popen(
        [*SNAKEMAKE, *QUICKLY, *arguments],
        cwd=project.root,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 240) -> str:
    """Wait for success and return the output."""
    output = process.communicate(timeout=seconds)[0]
    assert process.returncode == 0, output[-6000:]
    return output


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def long_training(smoke_run: Project, folder: Path, epochs: int) -> Project:
    """A copy of the finished study in which the training of one backbone takes longer."""
    project = copy_project(smoke_run, folder)
    params = project.params
    set_key(params, "backbones.resnet.train", {"epochs": epochs})
    project.set_params(params)
    (project.root / LOG).unlink()
    return project


def test_a_study_has_the_results_of_a_local_run(
    cluster: SlurmCluster, smoke_run: Project, tmp_path: Path
) -> None:
    project = copy_repository(tmp_path / "study")
    (project.root / "params.yaml").write_text(apply_preset(ROOT / "presets/smoke.yaml"))
    output = finish(start(cluster, project), 480)
    assert submitted(output) == {
        *("audit", "pack", "screen", "tune", "train", "subset", "evaluate", "cost", "export")
    }
    assert repeatable(project) == repeatable(smoke_run)
    assert (snakemake_plan(project.root), dvc_plan(project.root)) == (set(), set())


def submitted(output: str) -> set[str]:
    """Return the rules whose jobs were submitted to Slurm."""
    return set(re.findall(r"submitted with SLURM jobid \d+ \(log: .*/rule_(\w+)/", output))


def test_jobs_are_submitted_again_after_cancellation_time_limit_and_too_little_memory(
    cluster: SlurmCluster, smoke_run: Project, tmp_path: Path
) -> None:
    """Each with more resources; a training resumes, and its log has all attempts."""
    project = long_training(smoke_run, tmp_path / "study", 900)
    process = start(
        *(cluster, project, "results/evaluate/resnet/0/metrics.json"),
        *("--set-resources", "train:runtime=1", "evaluate:mem_mb=200*attempt**4"),
        *("--retries", "6"),  # on a busy machine, the training exceeds its minute more often
    )
    wait_for(lambda: "epoch 3/" in read(project.root / LOG), process, 180)
    ((job, *_),) = cluster.jobs()
    cluster.run("scancel", job)
    finish(process, 480)
    log = read(project.root / LOG)
    assert log.count("epoch 1/900") == 1
    assert log.count("resuming after epoch") >= 2


def test_a_training_survives_its_node_and_its_submitter(
    cluster: SlurmCluster, smoke_run: Project, tmp_path: Path
) -> None:
    """Their processes are alive, and nothing is computed twice."""
    project = long_training(smoke_run, tmp_path / "study", 500)
    process = start(cluster, project, MODEL)
    wait_for(lambda: "epoch 2/" in read(project.root / LOG), process, 180)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    ((_, state, node, _),) = cluster.jobs()
    assert state == "RUNNING"
    again = start(cluster, project, MODEL, "--rerun-incomplete")
    cluster.kill_node(node)
    finish(again)
    cluster.start_node(node)
    log = read(project.root / LOG)
    assert "train@resnet-0 is being run by process" in log
    assert "outputs restored from the cache" in log
    assert "train@resnet-0" not in snakemake_plan(project.root)


def test_a_job_that_needs_a_gpu_gets_one(
    cluster: SlurmCluster, smoke_run: Project, tmp_path: Path
) -> None:
    project = long_training(smoke_run, tmp_path / "study", 2)
    params = project.params
    set_key(params, "backbones.resnet.train", {"device": "cuda"})
    project.set_params(params)
    process = start(cluster, project, MODEL, "--retries", "0")
    requested: list[str] = []

    def submitted() -> bool:
        requested.extend(cluster.run("scontrol", "show", "job", job) for job, *_ in cluster.jobs())
        return bool(requested)

    wait_for(submitted, process, 180)
    assert process.wait(120)
    assert re.search(r"TresPerJob=\S*gpu:1$", requested[0], re.M), requested[0]
    # The first job on a GPU is the search of the learning rate.
    assert "torch sees no GPU" in read(project.root / "results/logs/tune/resnet.log")
