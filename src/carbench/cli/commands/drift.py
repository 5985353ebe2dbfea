"""carbench drift: say whether the newest images still look like those the model was tested on.

Holds a window of the predictions that `carbench serve` has recorded against the reference in the
exported folder: the images themselves, the predicted classes, the model's confidence and where it
sees the images.

exit status: 0 no drift; 2 drift; 4 different, but the model makes about the same of the images;
3 not enough images; 1 refused
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from carbench.core.atomic_write import write_whole
from carbench.core.errors import CarbenchError

if TYPE_CHECKING:
    from carbench.deploy.drift.false_alarms import FalseAlarmRates
    from carbench.deploy.drift.two_sample_tests import DriftResult

# Images of a window, if not told otherwise.
DEFAULT_WINDOW = 500
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# What --alpha may be: relabelings grow as it shrinks, and a coin is no alarm.
MIN_ALPHA, MAX_ALPHA = 0.001, 0.5
EXIT_STATUS = {"no drift": 0, "different": 4, "drift": 2, "not enough images": 3}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    # Kept as it is written above: argparse would fill the lines.
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("results/export"),
        metavar="FOLDER",
        help="the exported folder (default: %(default)s)",
    )
    parser.add_argument(
        "--log",
        type=Path,
        default=Path("predictions.sqlite"),
        metavar="FILE",
        help="where predictions were recorded (default: %(default)s)",
    )
    window = parser.add_mutually_exclusive_group()
    window.add_argument(
        "--last", metavar="N", help=f"the newest N images (default: {DEFAULT_WINDOW})"
    )
    window.add_argument("--since", metavar="AGE", help="the images of so long: 30m, 24h, 7d or 2w")
    parser.add_argument(
        "--alpha",
        default="0.01",
        metavar="SHARE",
        help="windows in which nothing has changed raise a false alarm this often, at most "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--min-effect",
        default="0",
        metavar="SIZE",
        help="effect size, 0 to 1, from which a difference in what the model makes of the images "
        "is drift (default: %(default)s)",
    )
    parser.add_argument(
        "--false-alarms",
        action="store_true",
        help="estimate from the reference how often windows of this size raise a false alarm "
        "(a minute), and compare nothing",
    )
    parser.add_argument("--seed", default="0", metavar="N", help="of the draws (default: 0)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page")
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the numbers to this file, or with `-` print them instead of the text",
    )


def run(args: argparse.Namespace) -> int:
    """Compare, print and write; return the exit status.

    Raises:
        CarbenchError: a value cannot be understood, the model, its reference or the log cannot be
            read, or a file cannot be written.
    """
    last = _parse_integer("--last", args.last, lowest=1) if args.last else None
    since = datetime.now(UTC) - parse_age(args.since) if args.since else None
    min_effect = _parse_fraction("--min-effect", args.min_effect, 0, 1, "0.2")
    alpha = _parse_fraction("--alpha", args.alpha, MIN_ALPHA, MAX_ALPHA, "0.01")
    seed = _parse_integer("--seed", args.seed, lowest=0)
    # What follows loads numpy and jinja2, which `--help` need not wait for.
    from carbench.deploy.bundle.exported_model import read_model
    from carbench.deploy.bundle.observations import read_reference
    from carbench.deploy.drift.report import drift_json, drift_verdict, render_report
    from carbench.deploy.drift.two_sample_tests import detect_drift
    from carbench.deploy.serve.recent_predictions import read_recent_predictions

    model = read_model(args.model)
    reference = read_reference(model)
    if args.false_alarms:
        from carbench.deploy.drift.false_alarms import estimate_false_alarms

        found = estimate_false_alarms(
            reference, model.classes, alpha, seed, last or DEFAULT_WINDOW, min_effect
        )
        sys.stdout.write(format_false_alarms(found, alpha))
        return 0
    window = read_recent_predictions(
        args.log, model.version, last if since or last else DEFAULT_WINDOW, since
    )
    drift = detect_drift(reference, window, model.classes, alpha, seed, min_effect)
    if args.html:
        _write(args.html, "--html", render_report(drift, model.version))
    if args.json:
        numbers = json.dumps(drift_json(drift, model.version), indent=2, ensure_ascii=False) + "\n"
        if args.json == "-":
            sys.stdout.write(numbers)
        else:
            _write(Path(args.json), "--json", numbers)
    if args.json != "-":
        sys.stdout.write(format_text(drift, model.version))
    return EXIT_STATUS[drift_verdict(drift)]


def format_false_alarms(found: FalseAlarmRates, alpha: float) -> str:
    """Return what is printed of false alarms."""
    from carbench.deploy.drift.report import format_percent

    few, many = (format_percent(found.quantile(share)) for share in (0.1, 0.9))
    return (
        f"False alarms of windows of {found.images} images, by resampling the reference: "
        f"{format_percent(found.mean)} on average "
        f"(--alpha promises at most {format_percent(alpha)}),\n"
        f"{few} to {many} for 8 of 10 references like this one ({len(found.rates)} halves, "
        f"{found.windows} windows each).\n"
    )


def format_text(drift: DriftResult, version: str) -> str:
    """Return what is printed: the sentence, and a line a test."""
    from carbench.deploy.drift.report import format_p_value, headline, typical_values

    lines = [
        headline(drift),
        f"{len(drift.window)} new images, {len(drift.reference)} of the reference; {version}",
    ]
    for test in drift.tests:
        before, after = typical_values(test)
        mark = "!" if test.alarm else "~" if test.different else " "
        size = f"p {format_p_value(test.p_adjusted):<8} effect {test.effect:.2f}"
        lines.append(f"{mark} {test.name:<16} {size}  {before} -> {after}")
    return "\n".join(lines) + "\n"


def parse_age(value: str) -> timedelta:
    """Return how long "30m", "24h", "7d" or "2w" is."""
    matched = re.fullmatch(r"(\d{1,6})([mhdw])", value.strip())
    if not matched:
        raise _option_error(
            "--since", value, "a number of minutes, hours, days or weeks", "24h or 7d"
        )
    return timedelta(**{UNITS[matched[2]]: int(matched[1])})


def _parse_fraction(option: str, value: str, lowest: float, highest: float, example: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = float("nan")
    if not lowest <= share <= highest:
        raise _option_error(option, value, f"a number from {lowest} to {highest}", example)
    return share


def _parse_integer(option: str, value: str, lowest: int) -> int:
    if not re.fullmatch(r"\d{1,9}", value) or int(value) < lowest:
        raise _option_error(option, value, f"a whole number from {lowest} on", str(lowest))
    return int(value)


def _option_error(option: str, value: str, expected: str, example: str) -> CarbenchError:
    # Not argparse's own check: its exit status is 2, which here is drift.
    return CarbenchError(
        f"carbench drift {option}",
        found=repr(value),
        expected=expected,
        fix=f"write it as in `{option} {example}`",
    )


def _write(path: Path, option: str, content: str) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise CarbenchError(
            path,
            found=f"a place that cannot be written to ({error.strerror})",
            expected="a file that can be written",
            fix=f"name another file with {option}",
        ) from None
