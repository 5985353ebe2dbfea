"""Studies that Snakemake submits to a scheduler, for tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import ROOT, Project, copy_project, set_key

MODEL = "results/train/resnet/0/model.safetensors"
LOG = "results/logs/train/resnet/0.log"


def start(
    environment: dict[str, str], project: Project, profile: str, *arguments: str
) -> subprocess.Popen[str]:
    """Start Snakemake with a profile, on a cluster without a network and for jobs of seconds."""
    return subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "tests/snakemake_polling_often.py")),
            *("--workflow-profile", f"workflow/profiles/{profile}"),
            *("--jobs", "4", "--latency-wait", "5", *arguments),
        ],
        cwd=project.root,
        env=environment,
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
    """Return the content of a file, or nothing if there is none."""
    return path.read_text() if path.exists() else ""


def long_training(smoke_run: Project, folder: Path, epochs: int, **recipe: object) -> Project:
    """A copy of the finished study in which the training of one backbone takes longer.

    Other keys of its recipe change with `recipe`.
    """
    project = copy_project(smoke_run, folder)
    params = project.params
    set_key(params, "backbones.resnet.train", {"epochs": epochs, **recipe})
    project.set_params(params)
    (project.root / LOG).unlink()
    return project
