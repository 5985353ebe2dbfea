"""carbench serve: answer images over HTTP, with a page at /, a log and monitoring.

    curl -X POST http://localhost:8000/v1/predict -F "image=@car.jpg"

SIGTERM and Ctrl-C end it within --grace seconds, after what is in work was answered; SIGHUP serves
what is in the exported folder now.
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

from carbench.core.errors import CarbenchError
from carbench.core.parallel import available_cores

if TYPE_CHECKING:
    from carbench.deploy.serve.settings import Settings

KEY_VARIABLE = "CARBENCH_API_KEY"
log = logging.getLogger("carbench")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    # Kept as it is written above: argparse would fill the lines.
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add(
        *("--model", "-m"),
        type=Path,
        default=Path("results/export"),
        metavar="FOLDER",
        help="the exported folder (default: %(default)s)",
    )
    add("--int8", action="store_true", help="serve its 8-bit model")
    add("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    add("--port", metavar="N", help="default: $PORT, or else 8000; 0: any that is free")
    add("--workers", metavar="N", help="processes (default: one per available core)")
    add("--grace", default="30", metavar="SECONDS", help="to end in (default: %(default)s)")

    access = parser.add_argument_group("access")
    access.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name that the Host header may have, beside localhost and --host; may be repeated",
    )
    access.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="web pages of another origin that may use the service, such as https://example.org; "
        "may be repeated",
    )
    access.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help=f"a key that clients have to send (default: ${KEY_VARIABLE}, or else none)",
    )

    record = parser.add_argument_group("log of predictions")
    record.add_argument(
        "--log",
        type=Path,
        default=Path("predictions.sqlite"),
        metavar="FILE",
        help="where predictions are recorded (default: %(default)s)",
    )
    record.add_argument("--keep-images", action="store_true", help="store the images, too")
    record.add_argument(
        "--keep-rows",
        default="1000000",
        metavar="N",
        help="newest predictions to keep; 0: all (default: %(default)s)",
    )
    record.add_argument(
        "--keep-days", default="0", metavar="DAYS", help="age to keep; 0: any (default: any)"
    )

    limits = parser.add_argument_group("limits (of a request, or of a worker)")
    for name, default, text in (
        ("--deadline", "10", "seconds from the last byte of a request to its answer"),
        ("--max-upload-mb", "20", "size of a request"),
        ("--max-megapixels", "40", "decoded pixels of an image, and half of those of a request"),
        ("--decode-memory-mb", "768", "memory to decode in, for each decoding process"),
        ("--waiting", "32", "requests in work; others get 503"),
        ("--receiving", "256", "requests that are still arriving"),
    ):
        limits.add_argument(name, default=default, metavar="N", help=f"{text} (default: {default})")

    drift = parser.add_argument_group("monitoring")
    drift.add_argument(
        "--min-effect",
        default="0",
        metavar="SIZE",
        help="effect size, 0 to 1, from which a difference is drift (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until told to end.

    Raises:
        CarbenchError: an option is wrong, the model or the log cannot be used, or the port is
            taken.
    """
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
        version = snapshots.take()  # so that what is wrong is said once, and not by every worker
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
    """Return what the options say.

    Raises:
        CarbenchError: one of them is wrong.
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
        api_key_sha256=_read_api_key(args.api_key_file),
        min_effect=_parse_number(args.min_effect, "--min-effect", 0, 1),
    )


def _log_startup(args: argparse.Namespace, settings: Settings, port: int, version: str) -> None:
    host = f"[{args.host}]" if ":" in args.host else args.host
    kept = f"the newest {settings.keep_rows:,} predictions" if settings.keep_rows else "all"
    log.info(
        "serving %s at http://%s:%d/, recording in %s (%s)", version, host, port, args.log, kept
    )
    if args.host not in ("127.0.0.1", "localhost", "::1") and settings.api_key_sha256 is None:
        log.warning(
            "%s can be reached from other machines: without TLS, and without an API key whoever "
            "reaches it may use it (--api-key-file; docs/serving.md)",
            args.host,
        )
    mode = stat.S_IMODE(args.log.stat().st_mode)
    if mode & 0o077:
        log.warning("%s can be read by others (mode %o); chmod 600 ends that", args.log, mode)


def _parse_port(value: str | None) -> float:
    where = "--port" if value is not None else "$PORT"
    found = _parse_number(value or os.environ.get("PORT") or "8000", where, 0, 65_535, whole=True)
    assert found is not None
    return found


def _parse_number(
    value: str | None, option: str, lowest: float, highest: float, whole: bool = False
) -> float | None:
    """Return the number of an option; None if it was not given."""
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
            fix="correct it, or leave the option out",
        )
    return number


def _parse_origin(value: str) -> str:
    origin = value.lower().rstrip("/")
    if not re.fullmatch(r"https?://[^/\s]+", origin):
        raise CarbenchError(
            "carbench serve --allow-origin",
            found=repr(value),
            expected="scheme and host, with a port if it is not the usual one",
            fix="write it as in `--allow-origin https://example.org`",
        )
    return origin


def _read_api_key(file: Path | None) -> str | None:
    """Return the sha256 of the API key; None if there is none."""
    if file is None:
        key = os.environ.pop(KEY_VARIABLE, "")
        return hashlib.sha256(key.encode()).hexdigest() if key else None
    try:
        key = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CarbenchError(
            file,
            found=f"no readable key ({error})",
            expected="a file with one line",
            fix="write it",
        ) from None
    if not key or not key.isascii() or not key.isprintable():
        raise CarbenchError(
            file,
            found="no key" if not key else "a key with characters that no header can hold",
            expected="one line of ASCII letters, digits and signs",
            fix="such as `openssl rand -hex 32 > FILE`",
        )
    return hashlib.sha256(key.encode()).hexdigest()
