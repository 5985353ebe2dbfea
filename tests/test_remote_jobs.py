"""Jobs on workers that share only a bucket with the submitting machine."""

from __future__ import annotations

import os
import re
import signal
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckets import Remote, folder_remote
from carbench.core.errors import CarbenchError
from carbench.engines.engine_jobs import dvc_plan, snakemake_plan
from carbench.engines.sync import open_workspace
from carbench.params.presets import apply_preset
from carbench.remote.bucket import Bucket
from carbench.remote.checkpoints import RemoteCheckpoints
from carbench.remote.launched_jobs import job_id
from carbench.remote.requests import (
    JobRequest,
    make_request,
    publish_request,
    require_same_versions,
)
from conftest import (
    ROOT,
    Project,
    copy_project,
    copy_repository,
    repeatable,
    set_key,
    wait_for,
)

JOB = "train@resnet-0"
URL = "gs://bucket/study"


def worker(folder: Path, params: str = "") -> Project:
    """A fresh clone; without parameters, with those that the repository ships."""
    project = copy_repository(folder)
    if params:
        (project.root / "params.yaml").write_text(params)
    return project


def run(server: Remote, project: Project, *command: str, seconds: float = 300) -> str:
    """Run a command that must succeed; return its output."""
    process = project.start(*command, **server.env)
    output = process.communicate(timeout=seconds)[0]
    assert process.returncode == 0, output[-6000:]
    return output


def with_epochs(project: Project, folder: Path, epochs: int) -> Project:
    """A copy of the finished study in which one backbone is trained for longer."""
    copy = copy_project(project, folder)
    params = copy.params
    set_key(params, "backbones.resnet.train", {"epochs": epochs})
    copy.set_params(params)
    return copy


@pytest.mark.slow
def test_two_workers_that_share_only_a_bucket_compute_a_study(
    server: Remote, smoke_run: Project, tmp_path: Path
) -> None:
    """The bytes are those of a local run, and both engines have nothing left to do."""
    project = worker(tmp_path / "submitter", apply_preset(ROOT / "presets/smoke.yaml"))
    names = ("first", "second")
    for name in names:
        worker(tmp_path / name)
    # One job at a time on each; which one is free takes the next.
    launcher = tmp_path / "launcher.sh"
    launcher.write_text(f"""
        while sleep 0.1; do
          for name in {" ".join(names)}; do
            cd {tmp_path}/$name && flock --nonblock --conflict-exit-code 75 .free "$@"
            status=$?
            [ $status = 75 ] || exit $status
          done
        done""")
    output = run(
        *(server, project, "snakemake", "--workflow-profile", "workflow/profiles/remote"),
        *("--carbench-remote", URL, "--carbench-launcher", f"sh {launcher}", "--jobs", "2"),
        seconds=480,
    )
    assert repeatable(project) == repeatable(smoke_run)
    assert (snakemake_plan(project.root), dvc_plan(project.root)) == (set(), set())
    assert "epoch 1/2" in (project.root / "results/logs/train/resnet/0.log").read_text()
    launched = set(re.findall(r"^rule (\w+):", output, re.M))
    assert launched == {
        *("audit", "pack", "screen", "tune", "train", "subset", "evaluate", "cost", "export")
    }
    for name in names:
        assert any((tmp_path / name / ".carbench/locks").glob("remote-*")), f"{name} was idle"


@pytest.mark.slow
def test_a_killed_worker_is_continued_by_another(
    server: Remote, smoke_run: Project, tmp_path: Path
) -> None:
    """Without Snakemake: both machines have the same parameters and share the bucket."""
    project = with_epochs(smoke_run, tmp_path / "submitter", 150)
    params = (project.root / "params.yaml").read_text()
    run(server, project, "carbench", "sync", "--remote", URL)
    command = ("carbench", "job", JOB, "--remote", URL, "--checkpoint-seconds", "1")

    clone = worker(tmp_path / "first", params)
    run(server, clone, "carbench", "job", "tune@resnet", "--remote", URL)
    first = clone.start(*command, **server.env)
    checkpoints = tmp_path / "store/.cloudstorage/bucket/study/carbench/checkpoints" / JOB
    wait_for(lambda: any(checkpoints.glob("*.tar")), first)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    output = run(server, worker(tmp_path / "second", params), *command)
    assert "resuming after epoch" in output
    assert not any(checkpoints.glob("*.tar"))

    # A third machine computes it undisturbed, while a fourth one does, too.
    third, fourth = (worker(tmp_path / name, params) for name in ("third", "fourth"))
    others = [each.start(*command, "--again", **server.env) for each in (third, fourth)]
    assert [(each.communicate(timeout=200)[0], each.returncode)[1] for each in others] == [0, 0]
    assert JOB in snakemake_plan(project.root)
    output = run(server, project, "carbench", "sync", "--remote", URL)
    assert f"taken from {URL}: tune@resnet, {JOB}" in output
    assert JOB not in snakemake_plan(project.root)
    content = open_workspace(project.root).content("results/train/resnet/0/model.safetensors")
    assert content is not None
    stored = f".dvc/cache/files/md5/{content.md5[:2]}/{content.md5[2:]}"
    assert all((clone.root / stored).exists() for clone in (project, third, fourth))


@pytest.fixture(scope="module")
def published(
    smoke_run: Project, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, JobRequest, Path]:
    """A study with an edited parameter, its request for a training, and a folder as remote."""
    folder = tmp_path_factory.mktemp("published")
    project = with_epochs(smoke_run, folder / "submitter", 3)
    workspace = open_workspace(project.root)
    job = workspace.jobs[JOB]
    inputs = workspace.inputs_of(job)
    assert inputs is not None
    request = make_request(workspace, job, inputs)
    remote = folder / "remote"
    publish_request(Bucket(project.root, str(remote), workspace.store), workspace, request)
    return project, request, remote


@pytest.mark.slow
def test_a_worker_with_other_code_refuses(
    published: tuple[Project, JobRequest, Path], tmp_path: Path
) -> None:
    _, request, remote = published
    command = ("carbench", "job", JOB, "--remote", str(remote), "--inputs", request.inputs.key)
    clone = worker(tmp_path / "worker")
    code = clone.root / "src/carbench/training/optim.py"
    original = code.read_text()
    code.write_text(f"{original}\nEDITED = 1\n")
    refused = clone.run(*command, check=False)
    assert refused.returncode == 1
    assert "src/carbench/training changed" in refused.stderr
    assert "check out the same commit" in refused.stderr
    # A comment is no difference.
    code.write_text(f"# A comment.\n{original}")
    clone.run(*command)
    assert (remote / "carbench/records" / JOB / f"{request.inputs.key}.json").exists()


@pytest.mark.slow
def test_a_damaged_input_in_the_remote_is_not_used(
    published: tuple[Project, JobRequest, Path], tmp_path: Path
) -> None:
    _, request, remote = published
    md5 = request.files["results/split/split.csv"].md5
    stored = remote / "files/md5" / md5[:2] / md5[2:]
    content = stored.read_bytes()
    stored.chmod(0o644)
    stored.write_bytes(content[:-1] + b"X")
    try:
        failed = worker(tmp_path / "worker").run(
            *("carbench", "job", JOB, "--remote", str(remote), "--again"),
            *("--inputs", request.inputs.key),
            check=False,
        )
    finally:
        stored.write_bytes(content)
    assert failed.returncode == 1
    assert f"incomplete or damaged inputs of {JOB}" in failed.stderr


@pytest.mark.slow
def test_a_failed_launcher_is_reported_and_the_result_is_unchanged(
    published: tuple[Project, JobRequest, Path], tmp_path: Path
) -> None:
    project = copy_project(published[0], tmp_path / "study")
    remote = tmp_path / "remote"
    profile = ("snakemake", "--workflow-profile", "workflow/profiles/remote")
    options = ("--carbench-remote", str(remote), "--retries", "0", "results/tune/resnet.csv")
    failed = project.run(*profile, *options, "--carbench-launcher", "false", check=False)
    assert failed.returncode == 1
    assert "tune@resnet: its launcher ended with status 1: `false`" in failed.stderr
    # It ends well, but nothing was computed.
    failed = project.run(*profile, *options, "--carbench-launcher", "true", check=False)
    assert failed.returncode == 1
    assert f"{remote} has no result" in failed.stderr
    assert "tune@resnet" in snakemake_plan(project.root)


@pytest.mark.slow
def test_an_interrupted_snakemake_stops_its_launchers(
    published: tuple[Project, JobRequest, Path], tmp_path: Path
) -> None:
    project = copy_project(published[0], tmp_path / "study")
    launcher, started, stopped = (tmp_path / name for name in ("launcher.sh", "started", "stopped"))
    launcher.write_text(
        f"trap 'touch {stopped}; exit 143' TERM\ntouch {started}\nsleep 100 &\nwait\n"
    )
    process = project.start(
        *("snakemake", "--workflow-profile", "workflow/profiles/remote"),
        *("--carbench-remote", str(tmp_path / "remote"), "results/tune/resnet.csv"),
        *("--carbench-launcher", f"sh {launcher}"),
        **folder_remote(tmp_path).env,
    )
    wait_for(started.exists, process, 120)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode != 0, output[-3000:]
    assert stopped.exists(), output[-3000:]


@pytest.mark.slow
def test_other_versions_are_refused(published: tuple[Project, JobRequest, Path]) -> None:
    _, request, _ = published
    assert {"python", "numpy", "onnxruntime", "torch", "timm", "snakemake"} < {*request.versions}
    require_same_versions(request)
    versions = {**request.versions, "torch": "1.0", "absent": "2.0"}
    del versions["timm"]
    other = replace(request, versions=versions)
    found = r"absent missing instead of 2\.0, timm \S+ instead of none, torch \S+ instead of 1\.0"
    with pytest.raises(CarbenchError, match=found):
        require_same_versions(other)


def test_checkpoints_travel_with_small_files_first(tmp_path: Path) -> None:
    """A small file tells how much of a large one, which only grows, is valid."""
    bucket = Bucket(ROOT, str(tmp_path / "remote"), open_workspace(ROOT).store)
    folder = tmp_path / "scratch"
    folder.mkdir()
    (folder / "images.npy").write_bytes(bytes(1000))
    (folder / "safe.json").write_bytes(b"{}")
    saved = RemoteCheckpoints(bucket, JOB, "key", folder)
    saved.save()
    archive = tmp_path / "remote/carbench/checkpoints" / JOB / "key.tar"
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["safe.json", "images.npy"]
    written = archive.stat().st_mtime_ns
    saved.save()  # nothing has changed
    assert archive.stat().st_mtime_ns == written

    RemoteCheckpoints(bucket, JOB, "key", tmp_path / "elsewhere").restore()
    assert (tmp_path / "elsewhere/images.npy").read_bytes() == bytes(1000)
    archive.write_bytes(archive.read_bytes()[:700])
    RemoteCheckpoints(bucket, JOB, "key", tmp_path / "damaged").restore()  # starts again
    saved.remove()
    saved.remove()
    assert not archive.exists()


NAMES = st.from_regex(r"[a-z_]{1,12}(@[A-Za-z0-9_.-]{1,80})?", fullmatch=True)


@given(NAMES, NAMES)
def test_names_at_a_scheduler_are_labels_and_differ(first: str, second: str) -> None:
    label = job_id(first, "key")
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", label)
    assert (label == job_id(second, "key")) == (first == second)
