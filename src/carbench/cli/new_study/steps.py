"""The next steps after `carbench init`: the commands that prepare and run the study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carbench.models.efficientnet_lite import CHECKPOINTS
from carbench.params.study import Study

PARAMS = Path("params.yaml")


def next_steps(study: Study, path: Path) -> list[str]:
    """Return the steps in order, the last of which runs the study.

    Args:
        study: the checked content of the file.
        path: the file; the engines read only params.yaml.
    """
    steps = []
    if study.data.source in ("archive", "folder") and not Path(study.data.path).exists():
        what = "zip" if study.data.source == "archive" else "folder"
        steps.append(f"set data.path in {path} to your {what}")
    if path != PARAMS:
        steps.append(f"cp {path} {PARAMS}")
    weights: list[tuple[str, Any]] = [
        (each.model, each.weights) for each in study.backbones.values()
    ]
    if any(own == "pretrained" for _, own in weights):
        steps.append("carbench pin")
    files = ((model, Path(own.file)) for model, own in weights if hasattr(own, "file"))
    if any(model in CHECKPOINTS and not file.exists() for model, file in files):
        steps.append("carbench weights")
    return [*steps, "snakemake"]
