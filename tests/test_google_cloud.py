"""envs/google_cloud: the commands, against a simulated gcloud; the study, against a bucket."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pathspec import GitIgnoreSpec

from buckets import Remote
from conftest import (
    ROOT,
    Project,
    active_environment,
    copy_project,
    copy_repository,
    set_key,
)

SCRIPT = "envs/google_cloud/cloud.sh"
ENDING = "my-project.iam.gserviceaccount.com"
BUCKET, BUILD, STUDY = "my-project-cars", f"cars-build@{ENDING}", f"cars-study@{ENDING}"
GCLOUD = shutil.which("gcloud")


@dataclass
class Cloud:
    """A clone, and a project of Google Cloud that a simulated gcloud talks to."""

    clone: Project
    folder: Path

    def run(self, *words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return self.shell(SCRIPT, *words, stdin=stdin, **env)

    def shell(self, *words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        settings = {"CARBENCH_PROJECT": "my-project", "CARBENCH_NAME": "cars"} | env
        inherited = active_environment()
        path = f"{self.folder / 'bin'}{os.pathsep}{inherited['PATH']}"
        return subprocess.run(
            ["bash", *words],
            cwd=self.clone.root,
            env=inherited | {"PATH": path, "CARBENCH_FAKE": str(self.folder)} | settings,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def succeed(self, *words: str, **env: str) -> str:
        done = self.run(*words, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def calls(self) -> list[list[str]]:
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def exists(self) -> dict[str, Any]:
        return json.loads((self.folder / "cloud.json").read_text())

    def become(self, cloud: dict[str, Any]) -> None:
        (self.folder / "cloud.json").write_text(json.dumps(cloud))


def simulate(clone: Project, folder: Path) -> Cloud:
    programs = folder / "bin"
    programs.mkdir(parents=True)
    fake = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'tests/fake_gcloud.py'))}"
    # Nothing is sent to a bucket here, and nothing waits.
    for name, body in {"gcloud": f'exec {fake} "$@"', "carbench": "exit 0", "sleep": ""}.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    from fake_gcloud import EMPTY

    cloud = Cloud(clone, folder)
    cloud.become(EMPTY)
    return cloud


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setenv("CARBENCH_FAKE", str(tmp_path))
    clone = copy_repository(tmp_path / "clone")
    export = clone.root / "results/export/model.json"
    export.parent.mkdir(parents=True)
    export.write_text('{"version": "resnet-0-dea557e5aa48"}')
    shutil.copy(clone.root / "presets/sample.yaml", clone.root / "params.yaml")
    return simulate(clone, tmp_path / "cloud")


def without_time(text: str) -> str:
    """Replace what differs from one study to the next."""
    return re.sub(r"cars-\d{8}-\d{6}", "cars-NOW", text)


@pytest.mark.parametrize(
    "words", [["setup"], ["study"], ["deploy"], ["status"], ["teardown", "--delete-results"]]
)
def test_a_dry_run_prints_the_script_that_would_run(cloud: Cloud, words: list[str]) -> None:
    if words != ["setup"]:
        cloud.succeed("setup")
    before, called = cloud.exists, len(cloud.calls)
    script = cloud.folder / "script.sh"
    script.write_text(cloud.succeed("--dry-run", *words))
    assert (cloud.exists, len(cloud.calls)) == (before, called)

    printed = cloud.shell(str(script))
    assert printed.returncode == 0, printed.stderr
    after_script, calls_of_script = cloud.exists, cloud.calls[called:]
    cloud.become(before)
    cloud.succeed(*words, *["--yes"] * (words[0] == "teardown"))
    assert without_time(json.dumps(cloud.calls[called + len(calls_of_script) :])) == without_time(
        json.dumps(calls_of_script)
    )
    assert without_time(json.dumps(cloud.exists)) == without_time(json.dumps(after_script))


@pytest.mark.skipif(not GCLOUD, reason="gcloud is not installed")
def test_gcloud_has_the_commands_and_flags(cloud: Cloud, tmp_path: Path) -> None:
    """Its own parser reads each call of the simulated one; nothing is sent."""
    for words in ("setup", "study", "deploy", "status", "teardown --delete-results --yes"):
        cloud.succeed(*words.split())
    # The checker takes a switch before a name for a flag with a value.
    switches = {"--quiet", "--recursive"}
    lines = {
        shlex.join(["gcloud", *(w for w in call if w not in switches)]) for call in cloud.calls
    }
    file = tmp_path / "calls.json"
    file.write_text(json.dumps([{"command_string": line} for line in sorted(lines)]))
    checked = subprocess.run(
        [str(GCLOUD), "meta", "lint-gcloud-commands", f"--commands-file={file}"],
        env=os.environ | {"CLOUDSDK_CONFIG": str(tmp_path / "config")},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(checked.stdout)
    assert len(found) == len(lines)
    assert [each["error_message"] for each in found if not each["success"]] == []


def test_permissions_are_the_least_that_suffice(cloud: Cloud) -> None:
    cloud.succeed("setup")
    assert sorted(cloud.exists["policy"]) == sorted(
        [
            [BUCKET, BUILD, "roles/storage.objectViewer"],
            ["cars", BUILD, "roles/artifactregistry.writer"],
            ["my-project", BUILD, "roles/logging.logWriter"],
            [BUCKET, STUDY, "roles/storage.objectUser"],
            ["cars", STUDY, "roles/artifactregistry.reader"],
            ["my-project", STUDY, "roles/logging.logWriter"],
            ["my-project", STUDY, "roles/batch.agentReporter"],
        ]
    )
    (created,) = (call for call in cloud.calls if call[:3] == ["storage", "buckets", "create"])
    assert {"--uniform-bucket-level-access", "--public-access-prevention"} < set(created)
    assert not any("keys" in call or "allUsers" in " ".join(call) for call in cloud.calls)
    cloud.succeed("deploy")
    (deployed,) = (call for call in cloud.calls if call[:2] == ["run", "deploy"])
    assert {"--no-allow-unauthenticated", f"--service-account=cars-serve@{ENDING}"} < set(deployed)


@pytest.mark.parametrize("failing", ["artifacts repositories create", "storage buckets update"])
def test_setup_can_be_repeated_and_continues_after_a_failure(cloud: Cloud, failing: str) -> None:
    (cloud.folder / "fail").write_text(failing)
    failed = cloud.run("setup")
    assert failed.returncode != 0
    assert "connection refused" in failed.stderr
    assert not cloud.exists["service-accounts"]  # it stopped there
    cloud.succeed("teardown", "--yes", "--delete-results")  # also where little exists
    cloud.succeed("setup")
    complete = cloud.exists
    cloud.succeed("setup")
    assert cloud.exists == complete
    # A new service account is not known at once.
    (cloud.folder / "fail").write_text("projects add-iam-policy-binding")
    cloud.succeed("setup")


def test_teardown_deletes_only_what_belongs_to_the_deployment(cloud: Cloud) -> None:
    foreign = {
        "buckets": {"unlabelled": "", "other": "cars-2"},
        "repositories": {"images": ""},
        "service-accounts": {f"cars-2-study@{ENDING}": "carbench-deployment-cars-2"},
        "services": {"shop": "", "old": "cars-2"},
        "jobs": {"job": "my-cars"},
        "images": [],
        "policy": [["my-project", f"cars-2-study@{ENDING}", "roles/logging.logWriter"]],
    }
    cloud.become(foreign)
    for word in ("setup", "study", "deploy"):
        cloud.succeed(word)
    complete = cloud.exists
    refused = cloud.run("teardown", stdin="n\n")
    assert refused.returncode == 1
    assert "nothing was deleted" in refused.stderr
    assert cloud.exists == complete

    remaining = cloud.succeed("teardown", "--yes")
    assert remaining.splitlines()[-1] == f"gs://{BUCKET}"  # has the results
    assert set(cloud.exists["buckets"]) == {BUCKET, "unlabelled", "other"}
    cloud.succeed("teardown", "--yes", "--delete-results")
    assert {**cloud.exists, "images": []} == foreign


def test_a_bucket_that_existed_is_used_and_never_deleted(cloud: Cloud) -> None:
    cloud.become({**cloud.exists, "buckets": {"results": ""}})
    cloud.succeed("setup", CARBENCH_BUCKET="results")
    assert ["results", STUDY, "roles/storage.objectUser"] in cloud.exists["policy"]
    cloud.succeed("teardown", "--yes", "--delete-results", CARBENCH_BUCKET="results")
    assert cloud.exists["buckets"] == {"results": ""}
    assert not cloud.exists["policy"]


def test_a_study_is_a_valid_job_with_what_the_image_lacks(cloud: Cloud) -> None:
    from google.cloud.batch_v1 import AllocationPolicy, Job
    from google.protobuf.json_format import ParseDict

    params = cloud.clone.params
    set_key(params, "data.source", "archive")
    set_key(params, "data.path", "weights/my cars' images.zip")
    cloud.clone.set_params(params)
    images = cloud.clone.root / "weights/my cars' images.zip"
    images.parent.mkdir()
    images.write_bytes(b"zip")
    cloud.succeed("setup")
    settings = {"CARBENCH_GPU_TYPE": "nvidia-tesla-t4", "CARBENCH_GPU_DRIVER": "580.95.05"}
    cloud.succeed("study", "results/choose/choice.csv", **settings)

    with tarfile.open(cloud.clone.root / ".carbench/study.tar") as tar:
        assert sorted(tar.getnames()) == ["params.yaml", "weights/my cars' images.zip"]
    text = (cloud.folder / "job.json").read_text()
    # Refuses unknown fields and values.
    job = Job.wrap(ParseDict(json.loads(text), Job.pb(Job())))
    allocation = job.allocation_policy
    assert job.labels["carbench"] == allocation.labels["carbench"] == "cars"
    assert allocation.service_account.email == STUDY
    (instances,) = allocation.instances
    assert instances.policy.provisioning_model == AllocationPolicy.ProvisioningModel.SPOT
    assert instances.policy.accelerators[0].driver_version == "580.95.05"
    task = job.task_groups[0].task_spec
    assert task.max_run_duration.total_seconds() == 24 * 3600
    container = task.runnables[0].container
    (uploaded,) = (call for call in cloud.calls if call[:2] == ["storage", "cp"])
    assert [container.entrypoint, *container.commands] == [
        *("bash", "envs/google_cloud/study.sh", f"gs://{BUCKET}/carbench", uploaded[-1]),
        "results/choose/choice.csv",
    ]
    commit = cloud.clone.run("git", "rev-parse", "--short=12", "HEAD").stdout.strip()
    assert container.image_uri.endswith(f"/my-project/cars/train:{commit}")

    active = cloud.run("study")
    assert active.returncode == 1
    assert "which has not ended" in active.stderr
    (name,) = cloud.exists["jobs"]
    cloud.become({**cloud.exists, "jobs": {f"{name}-ended": "cars"}})
    cloud.succeed("study", CARBENCH_GPUS="0", CARBENCH_SPOT="no")
    policy = json.loads((cloud.folder / "job.json").read_text())["allocationPolicy"]["instances"][0]
    expected = {"provisioningModel": "STANDARD", "machineType": "e2-standard-8"}
    assert policy == {"policy": expected}
    assert sum(call[:2] == ["builds", "submit"] for call in cloud.calls) == 1


@pytest.mark.parametrize(
    ("words", "env", "message"),
    [
        ("setup", {"CARBENCH_PROJECT": ""}, "CARBENCH_PROJECT: found nothing; expected the ID"),
        ("setup", {"CARBENCH_NAME": "a;rm"}, "CARBENCH_NAME: found a;rm"),
        ("setup", {"CARBENCH_BUCKET": "gs://b"}, "CARBENCH_BUCKET: found gs://b"),
        ("study", {"CARBENCH_GPUS": "0", "CARBENCH_GPU_DRIVER": "580.1"}, "CARBENCH_GPU_TYPE"),
        ("study $(id)", {}, "expected a target of Snakemake"),
        ("destroy", {}, "expected setup, study, deploy, status or teardown"),
        ("teardown --all", {}, "expected --yes or --delete-results"),
    ],
)
def test_a_wrong_setting_is_named(
    cloud: Cloud, words: str, env: dict[str, str], message: str
) -> None:
    failed = cloud.run(*words.split(), **env)
    assert failed.returncode == 1
    assert message in failed.stderr
    assert not cloud.calls


def test_what_an_image_cannot_have_is_refused(cloud: Cloud) -> None:
    params = cloud.clone.params
    set_key(params, "audit.reviewed", "../reviewed.csv")
    cloud.clone.set_params(params)
    failed = cloud.run("study")
    assert "../reviewed.csv, which is outside of this clone" in failed.stderr
    with (cloud.clone.root / "src/carbench/__init__.py").open("a") as file:
        file.write("\nEDITED = 1\n")
    for word in ("study", "deploy"):
        failed = cloud.run(word)
        assert failed.returncode == 1
        assert "src/carbench/__init__.py" in failed.stderr
        assert "git commit" in failed.stderr
    assert not cloud.calls


def test_only_what_an_image_needs_is_uploaded() -> None:
    ignored = GitIgnoreSpec.from_lines((ROOT / ".gcloudignore").read_text().splitlines())
    for name in ("src/carbench/__init__.py", "envs/Dockerfile.serve", "requirements.lock"):
        assert not ignored.match_file(name)
    assert not ignored.match_file("results/export/model.onnx")
    for name in (
        *(".git/config", ".venv/bin/python", ".dvc/cache/files/md5/00/11", ".dvc/config.local"),
        *("results/data/images/1.jpg", "weights/a.safetensors", "predictions.sqlite"),
        *(".carbench/study.tar", ".snakemake/log/a.log"),
    ):
        assert ignored.match_file(name), name


@pytest.mark.slow
def test_the_results_of_the_vm_are_those_of_the_clone(
    server: Remote, smoke_run: Project, tmp_path: Path
) -> None:
    """The command of the VM, in a copy of the code without git history, as in the image."""
    clone = copy_project(smoke_run, tmp_path / "clone")
    params = clone.params
    set_key(params, "backbones.resnet.train", {"epochs": 3})
    clone.set_params(params)
    image = copy_repository(tmp_path / "image")
    shutil.rmtree(image.root / ".git")
    (image.root / ".dvc/config.local").unlink()
    remote, archive = "gs://bucket/carbench", "gs://bucket/studies/cars.tar"

    def run(project: Project, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=project.root,
            env=active_environment() | server.env,
            capture_output=True,
            text=True,
            timeout=400,
        )

    def study(*targets: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "study.tar").unlink(missing_ok=True)
        run(clone, "tar", "--create", f"--file={tmp_path / 'study.tar'}", "params.yaml")
        put = "import gcsfs, sys; gcsfs.GCSFileSystem().put(*sys.argv[1:])"
        uploaded = run(clone, sys.executable, "-c", put, str(tmp_path / "study.tar"), archive)
        assert uploaded.returncode == 0, uploaded.stderr
        return run(image, "bash", "envs/google_cloud/study.sh", remote, archive, *targets)

    assert run(clone, "carbench", "sync", "--remote", remote).returncode == 0
    done = study("results/train/resnet/0/model.safetensors")
    assert done.returncode == 0, done.stderr
    assert "epoch 3/3" in done.stdout + done.stderr
    taken = run(clone, "carbench", "sync", "--remote", remote)
    # It ran nothing else: the other results came from the bucket.
    assert f"taken from {remote}: tune@resnet, train@resnet-0\n" in taken.stderr

    params["train"]["device"] = "cuda"
    clone.set_params(params)
    if not shutil.which("nvidia-smi"):
        failed = study()
        assert failed.returncode == 1
        assert "torch cannot use a GPU of this machine" in failed.stderr
