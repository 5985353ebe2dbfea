"""carbench drift: test whether the newest images differ from the validation images.

Compares a window of the predictions that `carbench serve` has recorded with the reference in the
exported folder: image statistics, predicted classes, confidence and features of the model.

exit status: 0 no drift; 2 drift; 4 images differ, but the response of the model does not;
3 not enough images; 1 error
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from carbench.core.atomic import write_atomic
from carbench.core.errors import CarbenchError

if TYPE_CHECKING:
    from carbench.deploy.drift.false_alarms import FalseAlarmRates
    from carbench.deploy.drift.two_sample_tests import DriftResult

# Default number of images per window.
DEFAULT_WINDOW = 500
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# Range of --alpha: the number of permutations grows as alpha decreases.
MIN_ALPHA, MAX_ALPHA = 0.001, 0.5
EXIT_STATUS = {"no drift": 0, "different": 4, "drift": 2, "not enough images": 3}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    # Keeps the line breaks of the description.
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("results/export"),
        metavar="FOLDER",
        help="exported model folder (default: %(default)s)",
    )
    parser.add_argument(
        "--log",
        type=Path,
        default=Path("predictions.sqlite"),
        metavar="FILE",
        help="SQLite file with the recorded predictions (default: %(default)s)",
    )
    window = parser.add_mutually_exclusive_group()
    window.add_argument(
        "--last", metavar="N", help=f"compare the newest N images (default: {DEFAULT_WINDOW})"
    )
    window.add_argument(
        "--since",
        metavar="AGE",
        help="compare the images of this period, such as 30m, 24h, 7d or 2w",
    )
    parser.add_argument(
        "--alpha",
        default="0.01",
        metavar="SHARE",
        help="maximum false-alarm rate per window (default: %(default)s)",
    )
    parser.add_argument(
        "--min-effect",
        default="0",
        metavar="SIZE",
        help="minimum effect size, 0 to 1, of a drift alarm (default: %(default)s)",
    )
    parser.add_argument(
        "--false-alarms",
        action="store_true",
        help="only estimate the false-alarm rate for windows of this size, by resampling the "
        "reference (takes a minute)",
    )
    parser.add_argument("--seed", default="0", metavar="N", help="random seed (default: 0)")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write the report as an HTML page"
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the result as JSON; `-` prints it instead of the text",
    )


def run(args: argparse.Namespace) -> int:
    """Run drift detection and write the reports; return the exit status.

    Raises:
        CarbenchError: an option is invalid, the model, its reference or the log cannot be read, or
            a file cannot be written.
    """
    last = _parse_integer("--last", args.last, lowest=1) if args.last else None
    since = datetime.now(UTC) - parse_age(args.since) if args.since else None
    min_effect = _parse_fraction("--min-effect", args.min_effect, 0, 1, "0.2")
    alpha = _parse_fraction("--alpha", args.alpha, MIN_ALPHA, MAX_ALPHA, "0.01")
    seed = _parse_integer("--seed", args.seed, lowest=0)
    # Imported here because numpy and jinja2 would slow down `--help`.
    from carbench.deploy.bundle.exported_model import read_model
    from carbench.deploy.bundle.observations import read_reference
    from carbench.deploy.drift.report import drift_json, drift_verdict, render_report
    from carbench.deploy.drift.two_sample_tests import detect_drift
    from carbench.deploy.serve.recent_predictions import read_recent_predictions

    model = read_model(args.model)
    reference = read_reference(model)
    if args.false_alarms:
        from carbench.deploy.drift.false_alarms import estimate_false_alarms

        rates = estimate_false_alarms(
            reference, model.classes, alpha, seed, last or DEFAULT_WINDOW, min_effect
        )
        sys.stdout.write(format_false_alarms(rates, alpha))
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


def format_false_alarms(rates: FalseAlarmRates, alpha: float) -> str:
    """Return the false-alarm rates as text."""
    from carbench.report.tables.formatting import percent

    low, high = (percent(rates.quantile(share)) for share in (0.1, 0.9))
    return (
        f"False-alarm rate for windows of {rates.images} images, by resampling the reference: "
        f"{percent(rates.mean)} on average "
        f"(--alpha: at most {percent(alpha)}),\n"
        f"{low} to {high} for 80 % of references like this one ({len(rates.rates)} halves, "
        f"{rates.windows} windows each).\n"
    )


def format_text(drift: DriftResult, version: str) -> str:
    """Return the result as text: a summary, and one line per test."""
    from carbench.deploy.drift.report import details, format_p_value, headline, typical_values

    lines = [
        f"{headline(drift)} {details(drift)}",
        f"{len(drift.window)} new images, {len(drift.reference)} reference images; model {version}",
    ]
    for test in drift.tests:
        before, after = typical_values(test)
        result = "drift" if test.alarm else "different" if test.different else "no change"
        size = f"p {format_p_value(test.p_adjusted):<8} effect {test.effect:.2f}"
        lines.append(f"{result:<9}  {test.name:<16} {size}  {before} -> {after}")
    return "\n".join(lines) + "\n"


def parse_age(value: str) -> timedelta:
    """Parse a period such as "30m", "24h", "7d" or "2w"."""
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
    # Not checked by argparse, whose exit status for errors is 2, which means drift here.
    return CarbenchError(
        f"carbench drift {option}",
        found=repr(value),
        expected=expected,
        fix=f"write, for example, `{option} {example}`",
    )


def _write(path: Path, option: str, content: str) -> None:
    try:
        write_atomic(path, content)
    except OSError as error:
        raise CarbenchError(
            path,
            found=f"a path that cannot be written ({error.strerror})",
            expected="a writable file",
            fix=f"specify another file with {option}",
        ) from None
