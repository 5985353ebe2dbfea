"""Provenance of a result: code, data, package versions, hardware and time."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGE = Path(__file__).parents[1]
PACKAGES = ("carbench", "torch", "timm", "numpy", "pillow", "safetensors", "pandas")


def provenance(stage: str, params: dict[str, Any], inputs: list[Path]) -> dict[str, Any]:
    """Return the provenance of a result, to be stored with it.

    Args:
        stage: the stage's name.
        params: the parameters that were used, after overrides.
        inputs: files that the result depends on.
    """
    return {
        "stage": stage,
        "params": params,
        "inputs": {path.as_posix(): file_hash(path) for path in inputs},
        "code": code_hash(stage),
        "git": _git(),
        "versions": versions("python", *PACKAGES),
        "hardware": hardware(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def code_hash(stage: str) -> str:
    """Return a sha256 of the names and contents of a stage's script and of this package."""
    digest = hashlib.sha256()
    for path in [Path(f"scripts/{stage}.py").absolute(), *sorted(PACKAGE.rglob("*.py"))]:
        content = path.read_bytes()
        name = os.path.relpath(path, PACKAGE)
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Return the sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions(*names: str) -> dict[str, str | None]:
    """Return the versions of packages and of ``python``; None if not installed."""
    return {name: _version(name) for name in names}


def hardware() -> dict[str, Any]:
    """Return processor, cores, memory (GB) and GPUs of this machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": _gpus(),
        "system": platform.platform(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpus() -> list[str]:
    """Return the names of the GPUs from nvidia-smi, since torch may not be imported."""
    listing = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return listing.splitlines() if listing else []


def _git() -> dict[str, Any]:
    commit = _output("git", "rev-parse", "HEAD")
    # Tracked files that a run writes do not count as edits.
    changed = _output("git", "status", "--porcelain", "--untracked-files=no", "--", ".")
    edits = [
        line
        for line in (changed or "").splitlines()
        if not line[3:].startswith(("results/", "dvc.lock"))
    ]
    return {"commit": commit, "dirty": bool(edits) if commit else None}


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip("\n")


def _version(name: str) -> str | None:
    if name == "python":
        return platform.python_version()
    try:
        return version(name)
    except PackageNotFoundError:
        return None
