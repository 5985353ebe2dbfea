"""carbench drift: say whether new pictures differ from those that the model knows.

Holds the newest predictions of the log against the reference that was exported with the model.
Ends with 0 if nothing has changed, 2 if something has, 3 if there are not enough pictures to tell.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from carbench.ledger.whole import write_whole

log = logging.getLogger("carbench")

UNITS = {"m": "minutes", "h": "hours", "d": "days"}
UNCHANGED, CHANGED, TOO_FEW = 0, 2, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("results/export"),
        help="the exported folder (default: %(default)s)",
    )
    parser.add_argument(
        "--log",
        type=Path,
        default=Path("predictions.sqlite"),
        help="what `carbench serve` recorded (default: %(default)s)",
    )
    parser.add_argument(
        "--last", type=int, default=500, help="newest pictures, at most (default: %(default)s)"
    )
    parser.add_argument(
        "--since", type=duration, metavar="24h", help="no older ones: minutes, hours or days"
    )
    parser.add_argument(
        "--alpha", type=float, default=0.01, help="chance of a false alarm (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the relabelings")
    parser.add_argument("--html", type=Path, help="write a page")
    parser.add_argument("--json", type=Path, help="write it for programs; - is the terminal")


def run(args: argparse.Namespace) -> int:
    """Compare, say what was found, and write what was asked for.

    Raises:
        CarbenchError: there is no model, or no log.
    """
    from carbench.deployed.folder import read_model
    from carbench.deployed.observations import read_observations
    from carbench.drift.page import as_json, render
    from carbench.drift.testing import compare
    from carbench.serve.log import read_window

    model = read_model(args.model)
    since = datetime.now(UTC) - args.since if args.since else None
    window = read_window(args.log, model.version, args.last, since)
    reference = read_observations(model.reference)
    drift = compare(reference, window, model.classes, args.alpha, args.seed)
    if args.html:
        write_whole(args.html, render(drift, model.version))
    if args.json:
        text = json.dumps(as_json(drift, model.version), indent=2, ensure_ascii=False) + "\n"
        if str(args.json) == "-":
            sys.stdout.write(text)
        else:
            write_whole(args.json, text)
    if not drift.enough:
        log.warning("%d pictures of %s: not enough to tell", len(window), model.version)
        return TOO_FEW
    for test in drift.tests:
        if test.alarm:
            shown = f", {test.before} before, {test.after} now" if test.before else ""
            log.warning("%s has changed (p = %.2g%s)", test.name, test.p_adjusted, shown)
    if not drift.alarm:
        log.info("nothing shows that the newest %d pictures differ", len(window))
    return CHANGED if drift.alarm else UNCHANGED


def duration(text: str) -> timedelta:
    """Return what a text such as 24h means."""
    found = re.fullmatch(r"(\d+)([mhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a time such as 90m, 24h or 7d")
    return timedelta(**{UNITS[found[2]]: int(found[1])})
