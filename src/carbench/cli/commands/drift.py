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
    from carbench.deploy.drift.resampling import FalseAlarms
    from carbench.deploy.drift.testing import Drift

# Images of a window, if not told otherwise.
LAST = 500
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# What --alpha may be: relabelings grow as it shrinks, and a coin is no alarm.
SMALLEST, LARGEST = 0.001, 0.5
STATUS = {"no drift": 0, "different": 4, "drift": 2, "not enough images": 3}


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
    window.add_argument("--last", metavar="N", help=f"the newest N images (default: {LAST})")
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
    last = _number("--last", args.last, lowest=1) if args.last else None
    since = datetime.now(UTC) - age(args.since) if args.since else None
    min_effect = _share("--min-effect", args.min_effect, 0, 1, "0.2")
    alpha = _share("--alpha", args.alpha, SMALLEST, LARGEST, "0.01")
    seed = _number("--seed", args.seed, lowest=0)
    # What follows loads numpy and jinja2, which `--help` need not wait for.
    from carbench.deploy.bundle.folder import read_model
    from carbench.deploy.bundle.observations import read_reference
    from carbench.deploy.drift.page import as_json, render, verdict
    from carbench.deploy.drift.testing import compare
    from carbench.deploy.serve.log_window import read_window

    model = read_model(args.model)
    reference = read_reference(model)
    if args.false_alarms:
        from carbench.deploy.drift.resampling import false_alarms

        found = false_alarms(reference, model.classes, alpha, seed, last or LAST, min_effect)
        sys.stdout.write(in_sentences(found, alpha))
        return 0
    window = read_window(args.log, model.version, last if since or last else LAST, since)
    drift = compare(reference, window, model.classes, alpha, seed, min_effect)
    if args.html:
        _write(args.html, "--html", render(drift, model.version))
    if args.json:
        numbers = json.dumps(as_json(drift, model.version), indent=2, ensure_ascii=False) + "\n"
        if args.json == "-":
            sys.stdout.write(numbers)
        else:
            _write(Path(args.json), "--json", numbers)
    if args.json != "-":
        sys.stdout.write(text(drift, model.version))
    return STATUS[verdict(drift)]


def in_sentences(found: FalseAlarms, alpha: float) -> str:
    """Return what is printed of false alarms."""
    from carbench.report.tables.formatting import percent

    few, many = (percent(found.quantile(share)) for share in (0.1, 0.9))
    return (
        f"False alarms of windows of {found.images} images, by resampling the reference: "
        f"{percent(found.mean)} on average (--alpha promises at most {percent(alpha)}),\n"
        f"{few} to {many} for 8 of 10 references like this one ({len(found.rates)} halves, "
        f"{found.windows} windows each).\n"
    )


def text(drift: Drift, version: str) -> str:
    """Return what is printed: the sentence, and a line a test."""
    from carbench.deploy.drift.page import in_words, p_value, sentence

    lines = [
        sentence(drift),
        f"{len(drift.window)} new images, {len(drift.reference)} of the reference; {version}",
    ]
    for test in drift.tests:
        before, after = in_words(test)
        mark = "!" if test.alarm else "~" if test.different else " "
        size = f"p {p_value(test.p_adjusted):<8} effect {test.effect:.2f}"
        lines.append(f"{mark} {test.name:<16} {size}  {before} -> {after}")
    return "\n".join(lines) + "\n"


def age(words: str) -> timedelta:
    """Return how long "30m", "24h", "7d" or "2w" is."""
    matched = re.fullmatch(r"(\d{1,6})([mhdw])", words.strip())
    if not matched:
        raise _wrong("--since", words, "a number of minutes, hours, days or weeks", "24h or 7d")
    return timedelta(**{UNITS[matched[2]]: int(matched[1])})


def _share(option: str, words: str, lowest: float, highest: float, example: str) -> float:
    try:
        share = float(words)
    except ValueError:
        share = float("nan")
    if not lowest <= share <= highest:
        raise _wrong(option, words, f"a number from {lowest} to {highest}", example)
    return share


def _number(option: str, words: str, lowest: int) -> int:
    if not re.fullmatch(r"\d{1,9}", words) or int(words) < lowest:
        raise _wrong(option, words, f"a whole number from {lowest} on", str(lowest))
    return int(words)


def _wrong(option: str, words: str, expected: str, example: str) -> CarbenchError:
    # Not argparse's own check: its exit status is 2, which here is drift.
    return CarbenchError(
        f"carbench drift {option}",
        found=repr(words),
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
