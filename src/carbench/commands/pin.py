"""carbench pin: write down which weights `weights: pretrained` means, by commit and content.

Asks the hub. Of params.yaml only the pins change.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "repository",
        metavar="OWNER/NAME",
        nargs="?",
        help="print the pin of this repository (default: pin what params.yaml names)",
    )


def run(args: argparse.Namespace) -> int:
    """Pin, and say what was pinned.

    Raises:
        CarbenchError: params.yaml cannot be read, or the hub not asked; the file is as it was.
    """
    from carbench.models.hub import newest
    from carbench.pin import as_yaml, pin_all

    path = Path("params.yaml")
    if args.repository:
        print(as_yaml(newest(args.repository, "weights")))  # noqa: T201
        return 0
    pins = pin_all(path)
    for name, pin in pins.items():
        print(f"{path}: {name}: {as_yaml(pin)}")  # noqa: T201
    if not pins:
        print(f"{path}: nothing to pin")  # noqa: T201
    return 0
