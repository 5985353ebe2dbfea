"""What the tests share: studies in folders of their own, run by the real engines."""

from __future__ import annotations

import copy
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dvc  # noqa: F401  # before any test: its log goes to the stream of the first import
import pytest
import yaml
from hypothesis import settings
from packaging.requirements import Requirement

import carbench.models  # noqa: F401  before timm, as in every job: torch's compiler stays out
from carbench.engines.locks import named_lock
from carbench.params.presets import apply_preset, read_preset
from service_process import RunningService, run_service

if TYPE_CHECKING:
    from buckets import Remote
    from containers import ContainerEngine

ROOT = Path(__file__).parents[1]
SMOKE = read_preset(ROOT / "presets/smoke.yaml")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
ARCHIVE = Path(
    os.environ.get("CARBENCH_ARCHIVE", ROOT / "../shared/data/cars-image-dataset.zip")
).resolve()

# EXIF metadata of an image that lies on its side, with bytes where a resolution has a rational:
# Pillow can read it and cannot write it again.
TURNED_ODDLY = (
    b"Exif\0\0II*\0\x08\0\0\0\x02\0"
    b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    b"\x1b\x01\x01\0\x04\0\0\0\x01\x02\x03\x04"
    b"\0\0\0\0"
)


# Examples take longer on a busy machine; that is no failure.
settings.register_profile("carbench", deadline=None)
settings.load_profile("carbench")


@dataclass(frozen=True)
class Project:
    """A copy of this repository in a git repository of its own."""

    root: Path

    @property
    def params(self) -> dict[str, Any]:
        """The content of params.yaml."""
        return yaml.safe_load((self.root / "params.yaml").read_text())

    def set_params(self, params: dict[str, Any]) -> None:
        """Replace params.yaml."""
        (self.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as a person in this folder with the environment active would."""
        done = subprocess.run(
            command, cwd=self.root, env=active_environment(), capture_output=True, text=True
        )
        if check and done.returncode:
            pytest.fail(
                f"{' '.join(command)} ended with {done.returncode}\n"
                f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
            )
        return done

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, with more environment variables."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=active_environment() | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def active_environment() -> dict[str, str]:
    """The environment of a shell in which .venv is active."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def locked_versions(root: Path) -> dict[str, str]:
    """Return the versions in the lock for Python 3.11, by normalized name."""
    python = {"python_version": "3.11", "python_full_version": "3.11.0"}
    lines = (root / "requirements.lock").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if re.match(r"\w", line)]
    return {
        each.name: str(each.specifier).removeprefix("==")
        for each in requirements
        if each.marker is None or each.marker.evaluate(python)
    }


def copy_repository(target: Path) -> Project:
    """Copy what git would clone, with uncommitted edits, and commit it there."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if name.startswith("results/") and name != "results/.gitignore":
            continue
        source, copy = ROOT / name, target / name
        if source.exists() or source.is_symlink():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)
    project = Project(target)
    (target / ".dvc/config.local").write_text("[core]\n    site_cache_dir = .dvc/tmp/site\n")
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("git", "config", "user.email", "tests@example.org")
    project.run("git", "config", "user.name", "tests")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message=start")
    return project


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The repository with the parameters that it ships, without results. Tests leave it as it is.

    What a developer has made in the checkout, or tries in its params.yaml, is not tested.
    """
    project = copy_repository(tmp_path_factory.mktemp("shipped") / "repository")
    shutil.copy(project.root / "presets/sample.yaml", project.root / "params.yaml")
    return project


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The smoke study, run by Snakemake. Tests leave it as it is."""
    return made_once(tmp_path_factory, "snakemake", "--cores", "8", "--resources", "gpu=1")


@pytest.fixture(scope="session")
def dvc_run(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The smoke study in another clone, run by DVC. Tests leave it as it is."""
    return made_once(tmp_path_factory, "dvc", "repro")


def made_once(tmp_path_factory: pytest.TempPathFactory, *command: str) -> Project:
    """A copy of the smoke study that a command has run, once for all processes of the tests."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    origin = shared / f"made-by-{command[0]}"
    with named_lock(shared, command[0], on_wait=print):
        if not (shared / f"{command[0]}-done").exists():
            shutil.rmtree(origin, ignore_errors=True)
            project = copy_repository(origin)
            (project.root / "params.yaml").write_text(apply_preset(ROOT / "presets/smoke.yaml"))
            project.run("git", "commit", "--quiet", "--all", "--message=smoke")
            project.run(*command)
            (shared / f"{command[0]}-done").touch()
    return copy_project(Project(origin), tmp_path_factory.mktemp(command[0]) / "study")


def wait_for(
    reached: Callable[[], object], process: subprocess.Popen[str], seconds: float = 60
) -> None:
    """Wait until a condition is met while a process runs; fail with its output if it ends."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, f"ended too early: {process.communicate()[0][-6000:]}"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def copy_project(project: Project, target: Path) -> Project:
    """A copy of a project with its results, records and caches."""
    shutil.copytree(project.root, target, symlinks=True)
    return Project(target)


# Latencies and times differ from run to run, and so does what shows them.
MEASURED = (
    "cost/measured.csv",
    "cost/rounds.csv",
    "cost/memory.csv",
    "cost/conditions.json",
    "screen/tiny/cost.csv",
    "benchmarks/",
    "logs/",
    "provenance.json",
    "export/model.json",  # these two tell when and where it was trained
    "export/README.md",
    "report.html",
    "figures/pareto",
)


def results(project: Project) -> dict[str, bytes]:
    """All files of results/."""
    folder = project.root / "results"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".gitignore", ".snakemake_timestamp")
    }


def repeatable(project: Project) -> dict[str, object]:
    """What must be the same, to the byte, in every run of a study: all but what is measured."""
    return {
        name: without_costs(name, content)
        for name, content in results(project).items()
        if not any(part in name for part in MEASURED)
    }


def without_costs(name: str, content: bytes) -> object:
    """What must repeat of a result that also holds measured costs."""
    if name == "metrics.json":  # the headline; those of single runs repeat as they are
        headline = json.loads(content)
        del headline["onnx_ms"]
        return headline
    if name == "summary.csv":
        rows = csv.DictReader(io.StringIO(content.decode()))
        exact = ("onnx_bytes",)
        measured = ("onnx_", "torch_")
        return [
            {k: v for k, v in row.items() if k in exact or not k.startswith(measured)}
            for row in rows
        ]
    return content


@pytest.fixture
def smoke(smoke_run: Project) -> Any:
    """The smoke study; what a test edits of code and parameters is put back after it."""
    yield smoke_run
    smoke_run.run("git", "checkout", "--quiet", "HEAD", "--", ".")


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small exported model and images, as a study leaves them; made in a moment.

    Tests leave it as it is.
    """
    from bundles import write_study

    return write_study(tmp_path_factory.mktemp("deployed"))


@pytest.fixture(scope="session")
def service(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """That model, served by the command. Tests leave it as it is."""
    log = tmp_path_factory.mktemp("service") / "predictions.sqlite"
    with run_service(deployed, "--log", str(log)) as started:
        yield started


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Remote]:
    """A bucket of Google Cloud Storage on loopback."""
    from buckets import gcs

    folder = tmp_path / "store"
    folder.mkdir()
    remote = gcs(folder)
    remote.start()
    yield remote
    remote.kill()


@pytest.fixture(scope="module")
def engine() -> Iterator[ContainerEngine]:
    """A container engine, with images of its own."""
    from containers import start_engine, stop_engine

    # podman accepts only short paths.
    started = start_engine(Path(tempfile.mkdtemp(prefix="carbench-images-")))
    yield started
    stop_engine(started)


@pytest.fixture(scope="module")
def clone(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with an exported model."""
    root = copy_repository(tmp_path_factory.mktemp("images") / "clone").root
    shutil.copytree(deployed / "results/export", root / "results/export")
    return root


@pytest.fixture
def container(engine: ContainerEngine) -> Iterator[str]:
    """The name of a container, which is removed after the test."""
    yield "under-test"
    engine.run(
        "docker", "rm", "--force", "--volumes", "under-test", cwd=engine.storage, check=False
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser without a window.

    Of one module: while it is open its event loop runs, beside which Snakemake cannot start one.
    """
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def archive() -> Path:
    """The real car images."""
    if not ARCHIVE.is_file():
        pytest.skip(f"the Kaggle archive is not at {ARCHIVE}; set CARBENCH_ARCHIVE to its path")
    return ARCHIVE


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack, split.csv and a random start for trainings of a second."""
    from toy import write_images  # loads torch

    folder = tmp_path_factory.mktemp("made")
    write_images(folder)
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Path]:
    """Write the smoke study with some keys changed: study({"data.source": "folder"})."""

    def write(changes: dict[str, Any] | None = None) -> Path:
        params = copy.deepcopy(SMOKE)
        for key, value in (changes or {}).items():
            set_key(params, key, value)
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(params, sort_keys=False))
        return path

    return write


def set_key(params: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key."""
    *parents, last = key.split(".")
    for parent in parents:
        params = params[parent]
    params[last] = value


def run_script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a stage's script from the repository's root."""
    return subprocess.run(
        [sys.executable, f"scripts/{name}.py", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
