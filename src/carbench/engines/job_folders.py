"""Where a job keeps files that are not results, below ``.carbench``."""

from __future__ import annotations

from pathlib import Path


def scratch_folder(root: Path, job: str) -> Path:
    """Return the folder for checkpoints of a job, by the hash of its inputs; removed at its end."""
    return root / ".carbench/scratch" / job


def live_folder(root: Path, job: str, key: str) -> Path:
    """Return the folder for files that show the progress of a job with these inputs; it is kept."""
    return root / ".carbench/live" / job / key


def profile_folder(root: Path, job: str) -> Path:
    """Return the folder for the profile of a job, which replaces that of its last run."""
    return root / ".carbench/profiles" / job
