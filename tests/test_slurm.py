"""A study on a real Slurm cluster of two nodes, with the profile workflow/profiles/slurm."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import cluster_studies
from carbench.engines.engine_jobs import dvc_plan, snakemake_plan
from carbench.engines.locks import named_lock
from carbench.params.presets import apply_preset
from cluster_studies import LOG, MODEL, finish, long_training, read
from conftest import ROOT, Project, copy_project, copy_repository, repeatable, set_key, wait_for
from slurm_cluster import SlurmCluster, obstacle, slurm_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(obstacle() is not None, reason=str(obstacle())),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    """A cluster; one at a time on this machine, whose /etc/slurm it uses."""
    with (
        named_lock(Path(tempfile.gettempdir()), "slurm", on_wait=print),
        slurm_cluster() as started,
    ):
        yield started


def start(cluster: SlurmCluster, project: Project, *arguments: str) -> subprocess.Popen[str]:
    """Start Snakemake with the profile."""
    return cluster_studies.start(cluster.environment, project, "slurm", *arguments)


def test_a_study_has_the_results_of_a_local_run(
    cluster: SlurmCluster, smoke_run: Project, tmp_path: Path
) -> None:
    project = copy_repository(tmp_path / "study")
    (project.root / "params.yaml").write_text(apply_preset(ROOT / "presets/smoke.yaml"))
    output = finish(start(cluster, project), 480)
    assert {rule for _, rule in submitted(output)} == {
        *("audit", "pack", "screen", "tune", "train", "subset", "evaluate", "cost", "export")
    }
    assert repeatable(project) == repeatable(smoke_run)
    assert (snakemake_plan(project.root), dvc_plan(project.root)) == (set(), set())


def submitted(output: str) -> list[tuple[str, str]]:
    """Return id and rule of each job that was submitted to Slurm."""
    return re.findall(r"submitted with SLURM jobid (\d+) \(log: .*/rule_(\w+)/", output)


def test_jobs_are_submitted_again_after_cancellation_time_limit_and_too_little_memory(
    cluster: SlurmCluster, smoke_run: Project, tmp_path: Path
) -> None:
    """Each with more resources; a training resumes, and its log has all attempts."""
    project = long_training(smoke_run, tmp_path / "study", 30)
    process = start(
        *(cluster, project, "results/evaluate/resnet/0/metrics.json"),
        *("--set-resources", "evaluate:mem_mb=200*attempt**4"),
    )
    wait_for(lambda: "epoch 3/" in read(project.root / LOG), process, 180)
    ((job, *_),) = cluster.jobs()
    cluster.run("scancel", job)
    wait_for(lambda: "resuming after epoch" in read(project.root / LOG), process, 180)
    ((job, *_),) = cluster.jobs()
    stop_training(project)  # it would finish before Slurm enforces the limit, every 30 seconds
    cluster.run("scontrol", "update", f"JobId={job}", "EndTime=now")
    output = finish(process, 300)
    log = read(project.root / LOG)
    assert log.count("epoch 1/30") == 1
    assert log.count("resuming after epoch") == 2
    assert output.count("Trying to restart job") == 3
    ended = [(rule, cluster.state(job)) for job, rule in submitted(output)]
    assert ended == [
        ("tune", "COMPLETED"),
        *(("train", state) for state in ("CANCELLED", "TIMEOUT", "COMPLETED")),
        *(("evaluate", state) for state in ("FAILED", "COMPLETED")),
    ]
    assert any("Exceeded job memory limit" in read(log) for log in cluster.folder.glob("*.log"))


def stop_training(project: Project) -> psutil.Process:
    """Stop the process of a training, which is then still running for Slurm; return it."""
    (training,) = (
        process
        for process in psutil.process_iter(["cmdline"])
        if "scripts/train.py" in (process.info["cmdline"] or ())
        and process.cwd() == str(project.root)
    )
    training.suspend()
    return training


def test_a_training_survives_its_node_and_its_submitter(
    cluster: SlurmCluster, smoke_run: Project, tmp_path: Path
) -> None:
    """Its process is alive, nothing is computed twice, and the log has all epochs."""
    project = long_training(smoke_run, tmp_path / "study", 30)
    process = start(cluster, project, MODEL)
    wait_for(lambda: "epoch 2/" in read(project.root / LOG), process, 180)
    training = stop_training(project)  # it would finish before Slurm misses the node
    process.send_signal(signal.SIGKILL)
    process.communicate()
    ((_, state, node, _),) = cluster.jobs()
    assert state == "RUNNING"
    again = start(cluster, project, MODEL, "--rerun-incomplete")
    cluster.kill_node(node)
    waiting = "train@resnet-0 is being run by process"
    wait_for(lambda: any(waiting in read(log) for log in slurm_logs(project)), again, 180)
    training.resume()
    finish(again)
    cluster.start_node(node)
    log = read(project.root / LOG)
    for part in ("epoch 1/30", "epoch 30/30", waiting, "outputs restored from the cache"):
        assert log.count(part) == 1, log
    assert "train@resnet-0" not in snakemake_plan(project.root)


def slurm_logs(project: Project) -> list[Path]:
    return sorted((project.root / ".snakemake/slurm_logs").rglob("*.log"))


def test_a_job_that_needs_a_gpu_gets_one(
    cluster: SlurmCluster, smoke_run: Project, tmp_path: Path
) -> None:
    """It fails, as the cluster's GPUs are none: its message is at the end of the output."""
    project = copy_project(smoke_run, tmp_path / "study")
    params = project.params
    set_key(params, "backbones.resnet.train", {"device": "cuda"})
    project.set_params(params)
    process = start(cluster, project, "results/tune/resnet.csv", "--retries", "0")
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 1
    ((job, _),) = submitted(output)
    shown = cluster.run("scontrol", "show", "job", job)
    assert re.search(r"TresPerJob=\S*gpu:1$", shown, re.M), shown
    message = (
        "tune resnet failed: the end of results/logs/tune/resnet.log:\n"
        "  tune resnet: params.yaml: train.device: found 'cuda', but torch sees no GPU"
    )
    assert message in output


def test_a_forced_job_runs_again(cluster: SlurmCluster, smoke_run: Project, tmp_path: Path) -> None:
    project = copy_project(smoke_run, tmp_path / "study")
    finish(start(cluster, project, "--until", "audit", "--forcerun", "audit"))
    assert "outputs restored" not in read(project.root / "results/logs/audit.log")


def test_queued_experiments_run_in_one_allocation(
    cluster: SlurmCluster, smoke_run: Project, tmp_path: Path
) -> None:
    project = copy_project(smoke_run, tmp_path / "study")
    # The tests' relative path does not exist in the folders of experiments.
    site = project.root / ".dvc/tmp/site"
    project.run("dvc", "config", "--local", "core.site_cache_dir", str(site))
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message=study")
    project.run("dvc", "exp", "run", "--queue", "-n", "titled", "-S", "report.title=Another title")
    command = "dvc exp run --run-all --jobs 2"
    cluster.run("sbatch", "--wait", f"--chdir={project.root}", "-c", "2", "--wrap", command)
    project.run("dvc", "exp", "apply", "titled")
    assert "Another title" in read(project.root / "results/report.html")
    assert snakemake_plan(project.root) == set()
