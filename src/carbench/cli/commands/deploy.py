"""carbench deploy: deploy an exported model to the folder of a service, with a way back.

    carbench deploy export --to /srv/carbench
    carbench serve --model /srv/carbench/current
    carbench deploy export --to /srv/carbench --reload "kill -HUP PID" --url http://localhost:8000

BUNDLE is copied to a new folder and verified as the service does it; then the link `current` is
switched, --reload is run, and --url is asked until all workers serve the model. If they do not
within --timeout, the link is switched back. Without BUNDLE, the deployed models are listed.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from carbench.cli.api_key import KEY_VARIABLE, read_api_key
from carbench.core.errors import CarbenchError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    # Keeps the line breaks of the description.
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group()
    what.add_argument("bundle", nargs="?", type=Path, metavar="BUNDLE", help="exported folder")
    what.add_argument(
        "--rollback", action="store_true", help="return to the model before the current one"
    )
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FOLDER", help="folder with the deployed models"
    )
    parser.add_argument(
        "--reload", metavar="COMMAND", help="shell command that sends the service SIGHUP"
    )
    parser.add_argument("--url", help="address of the service, to check what it serves")
    parser.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help=f"file with the API key of the service (default: ${KEY_VARIABLE} or none)",
    )
    parser.add_argument("--int8", action="store_true", help="the service serves the 8-bit model")
    parser.add_argument(
        "--timeout",
        default="60",
        metavar="SECONDS",
        help="maximum time until the service serves the model (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Deploy, roll back or list.

    Raises:
        CarbenchError: the exported folder is damaged, the service does not serve the model, or
            there is nothing to return to.
    """
    # Imported here because onnxruntime would slow down `--help`.
    from carbench.deploy.rollout.deployment import deploy, roll_back
    from carbench.deploy.rollout.releases import Releases
    from carbench.deploy.rollout.running_service import RunningService

    releases = Releases(args.to)
    service = RunningService(
        args.reload,
        _parse_url(args.url) if args.url else None,
        read_api_key(args.api_key_file),
        _parse_timeout(args.timeout),
    )
    if args.rollback:
        roll_back(releases, service)
    elif args.bundle is not None:
        deploy(args.bundle, args.int8, releases, service)
    history = releases.history()
    lines = [f"{args.to}/{history[0].name} is current" if history else f"{args.to} has no release"]
    if history and (args.rollback or args.bundle):
        if args.url:
            lines[0] += f" and served by {args.url}"
        elif not args.reload:
            lines[0] += "; a running service loads it after SIGHUP"
    lines += [f"before: {', '.join(each.name for each in history[1:])}"] if history[1:] else []
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _parse_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise CarbenchError(
            "carbench deploy --url",
            found=repr(value),
            expected="an address that starts with http:// or https://",
            fix="write, for example, `--url http://localhost:8000`",
        )
    return value.rstrip("/")


def _parse_timeout(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 3600:
        raise CarbenchError(
            "carbench deploy --timeout",
            found=repr(value),
            expected="a number of seconds, at most 3600",
            fix="correct the value or omit the option",
        )
    return seconds
