"""The wheel, and what an environment can do that has no more than the wheel requires."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from conftest import Project
from service_process import RunningService, run_service

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(shipped: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution of a fresh clone."""
    clone = tmp_path_factory.mktemp("packaging") / "clone"
    shutil.copytree(shipped.root, clone, symlinks=True)
    uv("build", "--out-dir", str(clone / "dist"), str(clone))
    (built,) = clone.glob("dist/*.whl")
    return built


@pytest.fixture(scope="module")
def core(wheel: Path, shipped: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel and what it requires, without extras."""
    folder = tmp_path_factory.mktemp("core") / "venv"
    python = str(folder / "bin/python")
    uv("venv", str(folder))
    lock = str(shipped.root / "requirements.lock")
    uv("pip", "install", "--python", python, "--constraint", lock, str(wheel))
    return folder / "bin"


@pytest.fixture(autouse=True)
def no_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)


def test_the_wheel_has_every_file_of_the_packages(wheel: Path, shipped: Project) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = shipped.root / "src"
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert packed == {name for name in files if "__pycache__" not in name}
    assert {"carbench/deploy/serve/page.html", "snakemake_executor_plugin_carbench/__init__.py"} < (
        packed
    )


def test_a_model_is_served_without_extras(
    core: Path, deployed: Path, service: RunningService, tmp_path: Path
) -> None:
    packages = uv("pip", "list", "--format", "json", "--python", str(core / "python"))
    names = {package["name"] for package in json.loads(packages)}
    assert {"carbench", "onnxruntime"} < names
    assert not {"torch", "timm", "snakemake", "dvc", "pandas", "matplotlib"} & names

    models = tmp_path / "models"
    run(core / "carbench", "deploy", "results/export", "--to", str(models), cwd=deployed)
    log = str(tmp_path / "predictions.sqlite")
    options = ("--model", str(models / "current"), "--log", log, "--workers", "1")
    with run_service(deployed, *options, program=(str(core / "carbench"),)) as alone:
        for image in alone.images:
            for copy in range(3):  # drift needs 30, and counts equal files once
                content = image.read_bytes() + bytes(copy)
                assert top_classes(alone, content) == top_classes(service, content)
        for page in ("/", "/docs", "/metrics", "/monitoring"):
            assert urlopen(alone.url + page).status == 200
    drift = run(core / "carbench", "drift", "--log", log, cwd=deployed)
    assert "36 new images" in drift.stdout
    assert drift.returncode in (0, 2, 4), drift.stderr


def top_classes(service: RunningService, image: bytes) -> object:
    """Return the most probable classes and their probabilities."""
    headers = {"Content-Type": "image/jpeg"}
    with urlopen(Request(f"{service.url}/v1/predict", image, headers)) as answer:
        return json.load(answer)["top"]


def test_what_lacks_an_extra_names_it(core: Path, shipped: Project, deployed: Path) -> None:
    commands = {
        "sync": "engines",
        "why train": "engines",
        "verify": "engines",
        "job fetch": "engines",
        "audit review": "engines",
        "exp save -n name": "engines",
        "shortlist": "engines",
        "promote prod": "engines",
        "compare main other": "train",
    }
    for command, extra in commands.items():
        done = run(core / "carbench", *command.split(), cwd=deployed)
        assert_names_extra(done, f"carbench {command.split()[0]}", extra)

    clone = shipped.root
    assert_names_extra(run(core / "carbench", "pin", cwd=clone), "carbench pin", "train")
    init = ("init", str(deployed / "results/data/images"), "--output", str(deployed / "new.yaml"))
    assert_names_extra(run(core / "carbench", *init, cwd=clone), "carbench init", "train")
    options = "--pack x --split x --weights x --tune x --output x --backbone x --seed 0"
    script = run(core / "python", "scripts/train.py", *options.split(), cwd=clone)
    assert_names_extra(script, "train x 0: scripts/train.py", "engines")


def assert_names_extra(done: subprocess.CompletedProcess[str], where: str, extra: str) -> None:
    assert done.returncode == 1
    sentence = (
        rf"{where}: found no package [\w-]+; expected the extra `{extra}`\. "
        rf"Fix: pip install 'carbench\[{extra}\]'\n"
    )
    assert re.fullmatch(sentence, done.stderr), done.stderr


def run(program: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True)


def uv(*arguments: str) -> str:
    """Run uv, which asks the package registry; return what it prints."""
    environment = os.environ | {"UV_SYSTEM_CERTS": "1"}
    done = subprocess.run(["uv", *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
