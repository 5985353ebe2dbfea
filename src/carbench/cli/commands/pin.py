"""carbench pin: pin pretrained weights by commit and hash.

Queries the Hugging Face hub for every `weights: pretrained` in params.yaml, in which only the pins
change, and for the candidates of `screen:`, whose pins are added to the table `screen.weights`.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from carbench.params.train import WeightsHub

log = logging.getLogger("carbench")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "repository",
        metavar="OWNER/NAME",
        nargs="?",
        help="print the pin of this repository (default: pin the weights in params.yaml)",
    )


def run(args: argparse.Namespace) -> int:
    """Pin and print the pins; return 1 if a candidate could not be pinned.

    Raises:
        CarbenchError: params.yaml cannot be read, or the hub cannot be reached; nothing is written.
    """
    from carbench.models.hub import newest_pin
    from carbench.models.pin_backbones import pin_as_yaml, pin_backbones
    from carbench.screening.pin_candidates import pin_candidates

    path = Path("params.yaml")
    if args.repository:
        print(pin_as_yaml(newest_pin(args.repository, "weights")))  # noqa: T201
        return 0
    pinned = pin_backbones(path)
    for name, pin in pinned.items():
        print(f"{path}: {name}: {pin_as_yaml(pin)}")  # noqa: T201
    failed = any_candidates = False
    for model, found in pin_candidates(path):
        any_candidates = True
        if isinstance(found, WeightsHub):
            print(f"{model}: {pin_as_yaml(found)}")  # noqa: T201
        else:
            failed = True
            log.error("%s", found)
    if not pinned and not any_candidates:
        print(f"{path}: nothing to pin")  # noqa: T201
    return int(failed)
