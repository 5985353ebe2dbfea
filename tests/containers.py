"""A container engine for the tests: Debian's podman, which is called `docker` here.

It has storage of its own, and builds on a base image made from Debian's packages, because the
official one has to be pulled from a registry.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from conftest import active_environment, locked_versions

# The official image is smaller by what it deletes, and has its own Python 3.11.
BASE = "localhost/python:3.11-slim-bookworm"
PROGRAMS = ("podman", "runc", "mmdebstrap")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

# Options that depend on the machine rather than on the image: Docker's defaults are the network of
# a bridge, limits that only a privileged process can raise, and no TLS for a registry on loopback.
DOCKER = """\
#!/bin/sh
# podman with the options that the tests' machines need.
command=$1
shift
case $command in
build) set -- --format docker --isolation chroot --network host --from {base} "$@" ;;
run) set -- --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 "$@" ;;
push | pull) set -- --tls-verify=false "$@" ;;
esac
exec podman --root {storage}/root --runroot {storage}/run --runtime runc \\
  --cgroup-manager cgroupfs --log-level error "$command" "$@"
"""


@dataclass(frozen=True)
class ContainerEngine:
    """`docker` on the PATH of the commands that it runs."""

    storage: Path

    @property
    def programs(self) -> Path:
        """The folder in which `docker` is."""
        return self.storage / "bin"

    def run(
        self, *command: str, cwd: Path, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that may call `docker`."""
        active = active_environment()
        path = f"{self.programs}{os.pathsep}{active['PATH']}"
        environment = active | {"PATH": path} | variables
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        if check and done.returncode:
            pytest.fail(f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
        return done

    def docker(self, *arguments: str, cwd: Path = Path("/")) -> str:
        """Run `docker`; return what it prints, without white space at its end."""
        return self.run("docker", *arguments, cwd=cwd).stdout.strip()


def start_engine(storage: Path) -> ContainerEngine:
    """Write `docker`, and make the base image; skip the test where no container can be run."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: .ci/run installs them")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("this user may not run containers")
    engine = ContainerEngine(storage)
    engine.programs.mkdir(parents=True)
    docker = engine.programs / "docker"
    docker.write_text(DOCKER.format(base=BASE, storage=storage))
    docker.chmod(0o755)
    make_base(engine)
    return engine


def make_base(engine: ContainerEngine) -> None:
    """Make the base image: Debian with its Python, and the certificates of this machine."""
    archive = engine.storage / "base.tar"
    create = ("mmdebstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates")
    trust = f"--customize-hook=copy-in {CERTIFICATES} {CERTIFICATES.parent}"
    engine.run(*create, trust, "bookworm", str(archive), cwd=engine.storage)
    variables = (f"PIP_CERT={CERTIFICATES}", f"SSL_CERT_FILE={CERTIFICATES}")
    changes = [f"--change=ENV {variable}" for variable in variables]
    engine.docker("import", *changes, str(archive), BASE)
    archive.unlink()


def stop_engine(engine: ContainerEngine) -> None:
    """Remove the containers and the images, which take many gigabytes."""
    engine.run("docker", "rm", "--all", "--force", "--time", "0", cwd=engine.storage, check=False)
    engine.run("docker", "rmi", "--all", "--force", cwd=engine.storage, check=False)
    shutil.rmtree(engine.storage, ignore_errors=True)


def assert_locked(
    engine: ContainerEngine, image: str, root: Path, present: set[str], absent: set[str]
) -> None:
    """Check the packages of an image, its list of them, its labels and its user.

    Args:
        engine: has the image, built with VERSION=1.2.3.
        image: its name.
        root: the clone that it was built from.
        present: packages that it has to contain.
        absent: packages that it must not contain.
    """
    run = ("run", "--rm", "--network", "none", "--entrypoint", "", image)
    bill = json.loads(engine.docker(*run, "cat", "/opt/carbench/sbom.cdx.json"))
    listed = {canonicalize_name(each["name"]): each["version"] for each in bill["components"]}
    script = (
        "import importlib.metadata as m;"
        "print(*(f'{d.name} {d.version}' for d in m.distributions()), sep='\\n')"
    )
    installed = dict(
        line.split() for line in engine.docker(*run, "python", "-c", script).split("\n")
    )
    assert listed == {canonicalize_name(package): version for package, version in installed.items()}
    assert present < set(listed)
    assert not absent & set(listed)
    locked = locked_versions(root)
    del listed["carbench"]
    assert listed == {package: locked[package] for package in listed}
    (inspected,) = json.loads(engine.docker("inspect", image))
    assert inspected["Config"]["Labels"]["org.opencontainers.image.version"] == "1.2.3"
    assert inspected["Config"]["User"] == "1000:1000"
