"""The launchers of workflow/launchers, with clients that play the states of a job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, wait_for

JOB = "carbench-train-resnet-0-0123456789"
COMMAND = ["carbench", "job", "train@resnet-0", "--remote", "gs://bucket/a b", "--inputs", "0a1b"]
SETTINGS = {
    "CARBENCH_IMAGE": "registry.example/carbench:1",
    "CARBENCH_PROJECT": "project",
    "CARBENCH_REGION": "europe-west4",
    "CARBENCH_GPU_MACHINE_TYPE": "g2-standard-8",
}


@dataclass
class Launcher:
    """A launcher, and the folder of its client (tests/fake_clients.py)."""

    script: Path
    folder: Path

    def begin(self, gpus: int = 0, job: str = JOB, **settings: str) -> subprocess.Popen[str]:
        """Start it as Snakemake's executor does."""
        environment = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "CARBENCH_FAKE": str(self.folder),
            "CARBENCH_POLL_SECONDS": "0.05",
        }
        return subprocess.Popen(
            [sys.executable, self.script, job, "4", "6000", "90", str(gpus), *COMMAND],
            env=environment | SETTINGS | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, gpus: int = 0, job: str = JOB, **settings: str) -> tuple[int, str]:
        """Return its exit status and output."""
        process = self.begin(gpus, job, **settings)
        output = process.communicate(timeout=60)[0]
        return process.returncode, output

    def play(self, *states: str, job: str | None = None) -> None:
        """Set the states of an existing job, or of the next one that is created."""
        file = self.folder / "jobs" / job if job else self.folder / "next"
        file.write_text("\n".join(states))

    @property
    def sent(self) -> dict[str, Any]:
        """What jobs were created from, by name."""
        files = sorted((self.folder / "sent").iterdir())
        return {file.name: json.loads(file.read_text()) for file in files}

    @property
    def jobs(self) -> set[str]:
        """The jobs that exist."""
        return {file.name for file in (self.folder / "jobs").iterdir()}


def make_launcher(script: str, folder: Path) -> Launcher:
    for name in ("bin", "jobs", "sent"):
        (folder / name).mkdir()
    for client in ("kubectl", "gcloud"):
        program = folder / "bin" / client
        program.write_text(f"#!{sys.executable}\n" + (ROOT / "tests/fake_clients.py").read_text())
        program.chmod(0o755)
    launcher = Launcher(ROOT / "workflow/launchers" / script, folder)
    launcher.play("active", "succeeded")
    return launcher


@pytest.fixture
def kubernetes(tmp_path: Path) -> Launcher:
    return make_launcher("kubernetes.py", tmp_path)


@pytest.fixture
def google_batch(tmp_path: Path) -> Launcher:
    return make_launcher("google_batch.py", tmp_path)


@pytest.fixture(params=["kubernetes.py", "google_batch.py"])
def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> Launcher:
    return make_launcher(request.param, tmp_path)


def test_a_job_is_created_and_waited_for(launcher: Launcher) -> None:
    launcher.play("active", "error", "active", "succeeded")
    status, output = launcher.run()
    assert status == 0, output
    assert list(launcher.sent) == [JOB]
    assert "connection refused" in output


def test_a_running_job_is_waited_for_instead_of_started_again(launcher: Launcher) -> None:
    launcher.play("active", "active", "succeeded", job=JOB)
    status, output = launcher.run()
    assert status == 0, output
    assert "already running" in output
    assert launcher.sent == {}


@pytest.mark.parametrize("ended", ["failed", "succeeded", "deleting"])
def test_a_job_that_has_ended_is_started_again_under_another_name(
    launcher: Launcher, ended: str
) -> None:
    longest = "carbench-" + 43 * "a" + "-0123456789"
    launcher.play(ended, job=longest)
    status, output = launcher.run(job=longest)
    assert status == 0, output
    (name,) = launcher.sent
    assert len(longest) == 63 >= len(name)
    assert name.endswith("-0123456789-2")
    launcher.play("active", "succeeded", job=name)
    assert launcher.run(job=longest)[0] == 0
    assert list(launcher.sent) == [name]


def test_a_failure_is_reported_with_its_reason(kubernetes: Launcher) -> None:
    kubernetes.play("active", "failed")
    status, output = kubernetes.run()
    assert status == 137
    assert "new has failed: OOMKilled" in output
    assert "the last lines of new" in output


def test_a_failure_on_google_batch_is_reported_with_its_events(google_batch: Launcher) -> None:
    google_batch.play("active", "failed")
    status, output = google_batch.run()
    assert status == 1
    assert "exit code 137" in output
    assert "gcloud logging read labels.job_uid=j-1" in output


def test_a_job_that_was_deleted_has_failed(launcher: Launcher) -> None:
    launcher.play("active")
    process = launcher.begin()
    wait_for(lambda: launcher.jobs, process)
    (launcher.folder / "jobs" / JOB).unlink()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert f"{JOB} was deleted" in output


def test_sigterm_deletes_the_job(launcher: Launcher) -> None:
    launcher.play("active")
    process = launcher.begin()
    wait_for(lambda: launcher.jobs, process)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert launcher.jobs == set()


@pytest.mark.parametrize(
    ("script", "missing"),
    [
        ("kubernetes.py", "CARBENCH_IMAGE"),
        *(("google_batch.py", name) for name in SETTINGS),
    ],
)
def test_a_missing_setting_is_named(tmp_path: Path, script: str, missing: str) -> None:
    launcher = make_launcher(script, tmp_path)
    status, output = launcher.run(gpus=1, **{missing: ""})
    assert status == 1
    assert f"{missing} is not set" in output
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize("gpus", [0, 2])
def test_the_manifest_of_kubernetes_is_valid(kubernetes: Launcher, gpus: int) -> None:
    from kubernetes_validate import validate

    settings = {"CARBENCH_SERVICE_ACCOUNT": "trainer", "CARBENCH_SECRET": "bucket"}
    assert kubernetes.run(gpus, CARBENCH_NAMESPACE="cars", **settings)[0] == 0
    calls = (kubernetes.folder / "calls").read_text().splitlines()
    assert all("--namespace=cars" in call for call in calls)
    manifest = kubernetes.sent[JOB]
    for version in ("1.31", "1.37"):  # in 1.31 podFailurePolicy became stable
        validate(manifest, version, strict=True)
    pod = manifest["spec"]["template"]["spec"]
    assert pod["activeDeadlineSeconds"] == 90 * 60
    assert pod["serviceAccountName"] == "trainer"
    (container,) = pod["containers"]
    assert container["command"] == COMMAND
    assert container["image"] == SETTINGS["CARBENCH_IMAGE"]
    assert container["envFrom"] == [{"secretRef": {"name": "bucket"}}]
    amounts = {"cpu": "4", "memory": "6000M"} | ({"nvidia.com/gpu": "2"} if gpus else {})
    for kind in ("requests", "limits"):
        assert container["resources"][kind] == amounts | {"ephemeral-storage": "10Gi"}
    assert bool(pod.get("tolerations")) == bool(gpus)


@pytest.mark.parametrize("gpus", [0, 2])
def test_the_configuration_of_google_batch_is_valid(google_batch: Launcher, gpus: int) -> None:
    from google.cloud.batch_v1 import AllocationPolicy, Job
    from google.protobuf.json_format import ParseDict

    settings = {
        "CARBENCH_SERVICE_ACCOUNT": "trainer@project.iam.gserviceaccount.com",
        "CARBENCH_MACHINE_TYPE": "n2-standard-4",
        "CARBENCH_GPU_TYPE": "nvidia-tesla-t4",
    }
    assert google_batch.run(gpus, **settings)[0] == 0
    calls = (google_batch.folder / "calls").read_text().splitlines()
    assert all("--project=project --location=europe-west4" in call for call in calls)
    # Refuses unknown fields and values.
    job = Job.wrap(ParseDict(google_batch.sent[JOB], Job.pb(Job())))
    task = job.task_groups[0].task_spec
    container = task.runnables[0].container
    assert [container.entrypoint, *container.commands] == COMMAND
    assert container.image_uri == SETTINGS["CARBENCH_IMAGE"]
    assert (task.compute_resource.cpu_milli, task.compute_resource.memory_mib) == (4000, 6000)
    assert task.max_run_duration.total_seconds() == 90 * 60
    (instances,) = job.allocation_policy.instances
    assert instances.policy.provisioning_model == AllocationPolicy.ProvisioningModel.SPOT
    assert instances.policy.machine_type == ("g2-standard-8" if gpus else "n2-standard-4")
    assert instances.install_gpu_drivers == bool(gpus)
    accelerators = [(each.type_, each.count) for each in instances.policy.accelerators]
    assert accelerators == [("nvidia-tesla-t4", 2)] * bool(gpus)
    assert job.allocation_policy.service_account.email == settings["CARBENCH_SERVICE_ACCOUNT"]
