"""carbench serve: classify images over HTTP, with a web page, a prediction log and monitoring.

    curl -X POST http://localhost:8000/v1/predict -F "image=@car.jpg"

SIGTERM and Ctrl-C stop the service within --grace seconds; requests in progress are completed.
SIGHUP loads the current content of the exported folder.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from carbench.cli.api_key import KEY_VARIABLE, read_api_key
from carbench.core.errors import CarbenchError
from carbench.core.parallel import available_cores

if TYPE_CHECKING:
    from carbench.deploy.serve.settings import Settings

log = logging.getLogger("carbench")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    # Keeps the line breaks of the description.
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add(
        *("--model", "-m"),
        type=Path,
        default=Path("results/export"),
        metavar="FOLDER",
        help="exported model folder (default: %(default)s)",
    )
    add("--int8", action="store_true", help="serve the 8-bit model")
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", metavar="N", help="port to listen on; 0: any free one (default: $PORT or 8000)")
    add(
        "--workers",
        metavar="N",
        help="number of worker processes (default: one per available core)",
    )
    add(
        "--grace",
        default="30",
        metavar="SECONDS",
        help="maximum time to shut down (default: %(default)s)",
    )

    access = parser.add_argument_group("access")
    access.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="accepted Host header, in addition to localhost and --host; may be repeated",
    )
    access.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="another origin whose web pages may use the service, such as https://example.org; "
        "may be repeated",
    )
    access.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help=f"file with the API key that clients have to send (default: ${KEY_VARIABLE} or none)",
    )

    record = parser.add_argument_group("prediction log")
    record.add_argument(
        "--log",
        type=Path,
        default=Path("predictions.sqlite"),
        metavar="FILE",
        help="SQLite file in which predictions are recorded (default: %(default)s)",
    )
    record.add_argument("--keep-images", action="store_true", help="also store the images")
    record.add_argument("--keep-pictures", action="store_true", help=argparse.SUPPRESS)  # renamed
    record.add_argument(
        "--keep-rows",
        default="1000000",
        metavar="N",
        help="number of newest predictions to keep; 0: all (default: %(default)s)",
    )
    record.add_argument(
        "--keep-days",
        default="0",
        metavar="DAYS",
        help="maximum age; 0: no limit (default: no limit)",
    )

    limits = parser.add_argument_group("limits (per request or per worker)")
    for name, default, text in (
        ("--deadline", "10", "seconds from the last byte of a request to the response"),
        ("--max-upload-mb", "20", "maximum size of a request"),
        ("--max-megapixels", "40", "maximum decoded pixels per image; twice as many per request"),
        ("--decode-memory-mb", "768", "memory of each decoding process"),
        (
            "--waiting",
            "32",
            "maximum number of requests in progress; further ones wait a second, and then get 503",
        ),
        ("--receiving", "256", "maximum number of requests that are still arriving"),
    ):
        limits.add_argument(name, default=default, metavar="N", help=f"{text} (default: {default})")

    drift = parser.add_argument_group("monitoring")
    drift.add_argument(
        "--min-effect",
        default="0",
        metavar="SIZE",
        help="minimum effect size, 0 to 1, of a drift alarm (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        CarbenchError: an option is invalid, the model or the log cannot be used, or the port is in
            use.
    """
    if args.keep_pictures:
        raise CarbenchError(
            "carbench serve --keep-pictures",
            found="an option that was renamed",
            expected="--keep-images",
            fix="use --keep-images instead",
        )
    workers = int(
        _parse_number(args.workers, "--workers", 1, 1000, whole=True) or available_cores()
    )
    port = int(_parse_port(args.port))
    grace = _parse_number(args.grace, "--grace", 2, 3600)
    assert grace is not None
    settings = _settings(args, workers)

    import uvicorn

    from carbench.deploy.serve.header_limits import HeaderLimitProtocol
    from carbench.deploy.serve.prediction_log import require_usable_log
    from carbench.deploy.serve.supervisor import ModelSnapshots, listen, run_supervisor

    with tempfile.TemporaryDirectory(prefix="carbench-") as folder:
        runtime = Path(folder)
        snapshots = ModelSnapshots(settings.model, settings.int8, runtime)
        version = snapshots.take()  # reports a broken model once, not once per worker
        require_usable_log(settings.log)
        listening = listen(args.host, port)
        settings = settings.model_copy(update={"model": snapshots.link, "runtime_folder": runtime})
        settings.export_to_environment()
        (runtime / "metrics").mkdir()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(runtime / "metrics")
        _log_startup(args, settings, listening.getsockname()[1], version)
        config = uvicorn.Config(
            "carbench.deploy.serve.app:create_app",
            factory=True,
            http=HeaderLimitProtocol,
            ws="none",
            workers=workers,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_worker_healthcheck=10,
        )
        return 0 if run_supervisor(config, listening, snapshots, grace) else 1


def _settings(args: argparse.Namespace, workers: int) -> Settings:
    """Return the settings from the options.

    Raises:
        CarbenchError: an option is invalid.
    """
    from carbench.deploy.serve.access_control import resolve_allowed_hosts
    from carbench.deploy.serve.settings import Settings

    megapixels = _parse_number(args.max_megapixels, "--max-megapixels", 0.01, 10_000)
    upload = _parse_number(args.max_upload_mb, "--max-upload-mb", 0.001, 10_000)
    memory = _parse_number(args.decode_memory_mb, "--decode-memory-mb", 64, 1_000_000)
    assert megapixels and upload and memory
    return Settings(
        model=args.model.absolute(),
        int8=args.int8,
        log=args.log.absolute(),
        keep_images=args.keep_images,
        keep_rows=_parse_number(args.keep_rows, "--keep-rows", 0, 10**12, whole=True),
        keep_days=_parse_number(args.keep_days, "--keep-days", 0, 100_000),
        threads=max(available_cores() // workers, 1),
        max_in_progress=_parse_number(args.waiting, "--waiting", 1, 10_000, whole=True),
        max_receiving=_parse_number(args.receiving, "--receiving", 1, 10_000, whole=True),
        max_body_bytes=int(upload * 1e6),
        max_buffered_bytes=int(max(12 * upload, 64) * 1e6),
        max_pixels=int(megapixels * 1e6),
        max_decode_work=int(2 * megapixels * 1e6),
        decode_memory_bytes=int(memory * 1e6),
        deadline=_parse_number(args.deadline, "--deadline", 0.1, 3600),
        allowed_hosts=resolve_allowed_hosts(args.host, args.allow_host),
        allowed_origins=[_parse_origin(each) for each in args.allow_origin],
        api_key_sha256=_api_key_sha256(args.api_key_file),
        min_effect=_parse_number(args.min_effect, "--min-effect", 0, 1),
    )


def _log_startup(args: argparse.Namespace, settings: Settings, port: int, version: str) -> None:
    host = f"[{args.host}]" if ":" in args.host else args.host
    kept = (
        f"the newest {settings.keep_rows:,} predictions"
        if settings.keep_rows
        else "all predictions"
    )
    log.info(
        "serving %s at http://%s:%d/, recording predictions in %s (keeps %s)",
        version,
        host,
        port,
        args.log,
        kept,
    )
    if args.host not in ("127.0.0.1", "localhost", "::1") and settings.api_key_sha256 is None:
        log.warning(
            "%s is reachable from other machines, without TLS and without an API key: anyone who "
            "can reach it can use it (see --api-key-file and docs/serving.md)",
            args.host,
        )
    mode = stat.S_IMODE(args.log.stat().st_mode)
    if mode & 0o077:
        log.warning(
            "%s is readable by other users (mode %o); run `chmod 600` on it", args.log, mode
        )


def _parse_port(value: str | None) -> float:
    source = "--port" if value is not None else "$PORT"
    found = _parse_number(value or os.environ.get("PORT") or "8000", source, 0, 65_535, whole=True)
    assert found is not None
    return found


def _parse_number(
    value: str | None, option: str, lowest: float, highest: float, whole: bool = False
) -> float | None:
    """Parse a numeric option; return None if it was not given."""
    if value is None:
        return None
    try:
        number = int(value) if whole else float(value)
    except ValueError:
        number = float("nan")
    if not lowest <= number <= highest:
        kind = "a whole number" if whole else "a number"
        raise CarbenchError(
            f"carbench serve {option}",
            found=repr(value),
            expected=f"{kind} from {lowest:g} to {highest:g}",
            fix="correct the value or omit the option",
        )
    return number


def _parse_origin(value: str) -> str:
    origin = value.lower().rstrip("/")
    if not re.fullmatch(r"https?://[^/\s]+", origin):
        raise CarbenchError(
            "carbench serve --allow-origin",
            found=repr(value),
            expected="scheme and host, and the port unless it is the default one",
            fix="write, for example, `--allow-origin https://example.org`",
        )
    return origin


def _api_key_sha256(file: Path | None) -> str | None:
    key = read_api_key(file)
    return hashlib.sha256(key.encode()).hexdigest() if key else None
