"""The images of envs/Dockerfile.*, really built and run."""

from __future__ import annotations

import json
import os
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
from packaging.requirements import Requirement

from bundles import write_bundle
from conftest import Project, copy_repository, repeatable, results
from containers import ContainerEngine, start_engine, stop_engine
from service_process import RunningService, free_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("images")]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerEngine]:
    started = start_engine(tmp_path_factory.mktemp("containers"))
    yield started
    stop_engine(started)


@pytest.fixture(scope="module")
def clone(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with an exported model."""
    root = copy_repository(tmp_path_factory.mktemp("images") / "clone").root
    shutil.copytree(deployed / "results/export", root / "results/export")
    return root


@pytest.fixture(scope="module")
def serve(engine: ContainerEngine, clone: Path) -> str:
    """The image of the service, without a model."""
    options = ("--target", "serve", "--build-arg", "VERSION=1.2.3", "--tag", "carbench-serve")
    engine.docker("build", "--file", "envs/Dockerfile.serve", *options, ".", cwd=clone)
    return "carbench-serve"


@pytest.fixture(scope="module")
def train(engine: ContainerEngine, clone: Path) -> str:
    """The image of whole studies."""
    options = ("--build-arg", "VERSION=1.2.3", "--tag", "carbench-train")
    engine.docker("build", "--file", "envs/Dockerfile.train", *options, ".", cwd=clone)
    return "carbench-train"


@pytest.fixture
def container(engine: ContainerEngine) -> Iterator[str]:
    """The name of a container, which is removed after the test."""
    yield "under-test"
    engine.run(
        "docker", "rm", "--force", "--volumes", "under-test", cwd=engine.storage, check=False
    )


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


@pytest.mark.parametrize(
    ("image", "present", "absent"),
    [
        ("serve", {"carbench", "onnxruntime", "fastapi"}, {"torch", "snakemake", "pip", "uv"}),
        ("train", {"carbench", "torch", "timm", "snakemake", "dvc", "dvc-s3"}, {"pytest", "pip"}),
    ],
)
def test_an_image_has_locked_versions_and_lists_them(
    image: str,
    present: set[str],
    absent: set[str],
    engine: ContainerEngine,
    clone: Path,
    request: pytest.FixtureRequest,
) -> None:
    name = request.getfixturevalue(image)
    run = ("run", "--rm", "--network", "none", "--entrypoint", "", name)
    bill = json.loads(engine.docker(*run, "cat", "/opt/carbench/sbom.cdx.json"))
    listed = {normalized(each["name"]): each["version"] for each in bill["components"]}
    script = (
        "import importlib.metadata as m;"
        "print(*(f'{d.name} {d.version}' for d in m.distributions()), sep='\\n')"
    )
    installed = dict(
        line.split() for line in engine.docker(*run, "python", "-c", script).split("\n")
    )
    assert listed == {normalized(package): version for package, version in installed.items()}
    assert present < set(listed)
    assert not absent & set(listed)
    locked = locked_versions(clone)
    del listed["carbench"]
    assert listed == {package: locked[package] for package in listed}
    (inspected,) = json.loads(engine.docker("inspect", name))
    assert inspected["Config"]["Labels"]["org.opencontainers.image.version"] == "1.2.3"
    assert inspected["Config"]["User"] == "1000:1000"


def locked_versions(root: Path) -> dict[str, str]:
    """Return the versions that the lock has for the Python of the images."""
    python = {"python_version": "3.11", "python_full_version": "3.11.0"}
    found = {}
    for line in (root / "requirements.lock").read_text().splitlines():
        if re.match(r"\w", line):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(python):
                found[requirement.name] = str(requirement.specifier).removeprefix("==")
    return found


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


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
    }
    (folder / "config.yml").write_text(yaml.safe_dump(configuration))
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    deadline = time.monotonic() + 30
    while True:
        try:
            urlopen(f"http://{address}/v2/")
            break
        except OSError:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
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


def test_a_study_in_the_image_has_the_bytes_of_one_outside(
    engine: ContainerEngine, train: str, smoke_run: Project, container: str, tmp_path: Path
) -> None:
    script = "carbench init smoke && snakemake --cores 2 --quiet rules && carbench verify"
    run = ("run", "--name", container, "--network", "none", train, "sh", "-c", script)
    engine.docker(*run)
    engine.docker("cp", f"{container}:/carbench/results", str(tmp_path / "results"))
    assert repeatable(Project(tmp_path)) == repeatable(smoke_run)


def test_a_clone_is_continued_in_the_image_by_any_user(
    engine: ContainerEngine, train: str, smoke_run: Project, tmp_path: Path
) -> None:
    study = shutil.copytree(smoke_run.root, tmp_path / "study", symlinks=True)
    for path in (study, *study.rglob("*")):
        os.chown(path, 4321, 4321, follow_symlinks=False)
    script = "snakemake --dry-run --quiet all; dvc status; carbench job report; id --user"
    run = ("run", "--rm", "--network", "none", "--user", "4321:4321")
    seen = engine.docker(*run, "--volume", f"{study}:/carbench", train, "sh", "-c", script)
    assert "Data and pipelines are up to date." in seen
    assert seen.endswith("4321")
    assert results(Project(study)) == results(smoke_run)


APPTAINER = """\
#!/bin/sh
# Runs `apptainer exec --home FOLDER ... IMAGE sh -c COMMAND` in the image of that name.
[ "$1" = --version ] && echo "apptainer version 1.3.6" && exit
echo "$1" >> "$0.log"
while [ "$1" != "{image}" ]; do shift; done
shift
exec docker run --rm --network none --user 0:0 \\
  --env-host --env PATH=/opt/carbench/bin:/usr/local/bin:/usr/bin:/bin \\
  --volume "$PWD:$PWD" --workdir "$PWD" carbench-train "$@"
"""


def test_rules_run_in_the_image_with_apptainer(
    engine: ContainerEngine, train: str, smoke_run: Project, tmp_path: Path
) -> None:
    """Apptainer itself is in no package of Debian: a script takes its place."""
    image = tmp_path / "carbench.sif"
    image.touch()
    program = engine.programs / "apptainer"
    program.write_text(APPTAINER.format(image=image))
    program.chmod(0o755)
    study = copy_repository(tmp_path / "study")
    shutil.copy(smoke_run.root / "params.yaml", study.root)
    files = ("results/split/split.csv", "results/pack/index.csv")
    command = ("snakemake", "--cores", "2", "--sdm", "apptainer", "--quiet", "rules", "--", *files)
    refused = engine.run(*command, cwd=study.root, check=False)
    assert "found no CARBENCH_IMAGE" in refused.stderr
    engine.run(*command, cwd=study.root, CARBENCH_IMAGE=str(image))
    for file in files:
        assert (study.root / file).read_bytes() == (smoke_run.root / file).read_bytes()
    assert program.with_suffix(".log").read_text().split() == ["exec"] * 4  # fetch to pack
