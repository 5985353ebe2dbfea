"""The image of envs/Dockerfile.serve, built and run, and Google's build of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml

from bundles import write_bundle
from containers import ContainerEngine, assert_locked
from service_process import RunningService, free_port, wait_until_ready

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def serve(engine: ContainerEngine, clone: Path) -> str:
    """The image of the service, without a model."""
    options = ("--target", "serve", "--build-arg", "VERSION=1.2.3", "--tag", "carbench-serve")
    engine.docker("build", "--file", "envs/Dockerfile.serve", *options, ".", cwd=clone)
    return "carbench-serve"


def test_a_mounted_model_is_served_with_few_rights(
    engine: ContainerEngine, serve: str, deployed: Path, service: RunningService, container: str
) -> None:
    port = free_port()
    engine.docker(
        *("run", "--detach", "--name", container, "--network", "host", "--env", f"PORT={port}"),
        *("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp", "--cap-drop", "all"),
        *("--security-opt", "no-new-privileges", "--cpus", "1", "--memory", "1g"),
        *("--volume", f"{deployed}/results/export:/model:ro", serve),
    )
    until_healthy(engine, container)
    url = f"http://127.0.0.1:{port}"
    for image in service.images:
        assert prediction(url, image) == prediction(service.url, image)

    inside = engine.docker("exec", container, "sh", "-c", "id --user; touch /x 2>&1; ls /data")
    assert inside.splitlines()[0] == "1000"
    assert "Read-only file system" in inside
    assert "predictions.sqlite" in inside

    (worker,) = processes(engine, container, "spawn_main")
    engine.docker("exec", container, "sh", "-c", f"kill -9 {worker}")
    deadline = time.monotonic() + 60
    while processes(engine, container, "spawn_main") in ([], [worker]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert prediction(url, service.images[0]) == prediction(service.url, service.images[0])
    states = engine.docker("exec", container, "sh", "-c", "grep -h State /proc/[0-9]*/status")
    assert "zombie" not in states

    engine.docker("stop", "--time", "30", container)
    assert engine.docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0"


def test_a_container_switches_to_a_deployed_model(
    engine: ContainerEngine, serve: str, container: str, tmp_path: Path
) -> None:
    """As docs/deployment.md says: the folder of all models is mounted, and the container told."""
    first, second = (write_bundle(tmp_path / f"bundle-{scale}", scale) for scale in (2.0, 3.0))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    engine.run("carbench", "deploy", str(first), "--to", "models", cwd=tmp_path)
    engine.docker(
        *("run", "--detach", "--name", container, "--network", "host", "--env", f"PORT={port}"),
        *("--cpus", "1", "--volume", f"{tmp_path}/models:/models:ro", serve),
        *("serve", "--model", "/models/current", "--host", "0.0.0.0"),
    )
    until_healthy(engine, container)
    tell = f"docker kill --signal HUP {container}"
    options = ("--to", "models", "--reload", tell, "--url", url)
    done = engine.run("carbench", "deploy", str(second), *options, cwd=tmp_path)
    assert f"is current and served by {url}" in done.stdout
    engine.run("carbench", "deploy", "--rollback", *options, cwd=tmp_path)
    with urlopen(f"{url}/v1/model") as answer:
        assert json.load(answer) == json.loads((first / "model.json").read_text())


def until_healthy(engine: ContainerEngine, container: str) -> None:
    """Wait until the image's own health check succeeds."""
    deadline = time.monotonic() + 60
    check = ("docker", "healthcheck", "run", container)
    while engine.run(*check, cwd=engine.storage, check=False).returncode:
        assert time.monotonic() < deadline, engine.run(
            "docker", "logs", container, cwd=engine.storage
        ).stderr
        time.sleep(0.2)


def prediction(url: str, image: Path) -> Any:
    request = Request(f"{url}/v1/predict", image.read_bytes(), {"Content-Type": "image/jpeg"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)["top"]


def processes(engine: ContainerEngine, container: str, part: str) -> list[int]:
    """Return the processes in a container, by a part of their command lines."""
    script = 'for p in /proc/[0-9]*; do echo "${p#/proc/} $(tr "\\0" " " < $p/cmdline)"; done'
    listed = engine.docker("exec", container, "sh", "-c", script)
    return [int(line.split()[0]) for line in listed.splitlines() if part in line.split(None, 1)[-1]]


def test_the_image_has_locked_versions_and_lists_them(
    engine: ContainerEngine, serve: str, clone: Path
) -> None:
    assert_locked(
        *(engine, serve, clone, {"carbench", "onnxruntime", "fastapi"}),
        {"torch", "snakemake", "pip", "uv"},
    )


def test_an_image_without_a_model_says_what_to_mount(engine: ContainerEngine, serve: str) -> None:
    failed = engine.run("docker", "run", "--rm", serve, cwd=engine.storage, check=False)
    assert failed.returncode == 1
    assert "/model: found no model.json; expected" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry on loopback."""
    if shutil.which("docker-registry") is None:
        pytest.skip("no docker-registry: .ci/run installs it")
    folder = tmp_path_factory.mktemp("registry")
    address = f"127.0.0.1:{free_port()}"
    configuration = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "images")}},
        "http": {"addr": address},
        # So that what it writes fits into a pipe.
        "log": {"level": "error", "accesslog": {"disabled": True}},
    }
    (folder / "config.yml").write_text(yaml.safe_dump(configuration))
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_until_ready(f"http://{address}/v2/", process, 30)
    yield address
    process.terminate()
    process.wait()


def test_cloud_build_builds_checks_and_pushes_the_service(
    engine: ContainerEngine, clone: Path, registry: str
) -> None:
    """The steps run as Google runs them, except in their own containers."""
    shutil.copytree(clone / "results/export", clone / "other/model", dirs_exist_ok=True)
    build = yaml.safe_load((clone / "envs/google_cloud/cloudbuild.yaml").read_text())
    given = {"_REPOSITORY": f"{registry}/cars", "_TAG": "v7", "_BUNDLE": "other/model"}
    assert set(given) < set(build["substitutions"])
    printed = {}
    for step in build["steps"]:
        assert step["name"] == "gcr.io/cloud-builders/docker"
        values = build["substitutions"] | given
        arguments = [substituted(each, values) for each in step["args"]]
        printed[step["id"]] = engine.run(step["entrypoint"], *arguments, cwd=clone).stdout
    assert '"top":' in printed["serve"]
    assert printed["train"] == "train: not asked for\n"
    with urlopen(f"http://{registry}/v2/_catalog") as answer:
        assert json.load(answer) == {"repositories": ["cars/serve"]}

    image = f"{registry}/cars/serve:v7"
    engine.docker("rmi", "--force", image)
    engine.docker("pull", image)
    shown = engine.docker("run", "--rm", "--entrypoint", "", image, "cat", "/model/model.json")
    assert json.loads(shown) == json.loads((clone / "other/model/model.json").read_text())


def substituted(text: str, values: dict[str, str]) -> str:
    """Replace ${NAME}; Google's build refuses a name that it does not know."""
    return re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], text)
