"""carbench serve: answer pictures over HTTP, with a page at /, a log and monitoring.

    curl -X POST http://localhost:8000/predict -F "image=@car.jpg"

Ends on SIGTERM or Ctrl-C, after what is in flight was answered.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from pathlib import Path

from carbench.errors import CarbenchError
from carbench.parallel import available_cores

log = logging.getLogger("carbench")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("results/export"),
        help="the exported folder (default: %(default)s)",
    )
    parser.add_argument("--int8", action="store_true", help="serve its 8-bit form")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine alone)"
    )
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    parser.add_argument(
        "--workers", type=int, default=available_cores(), help="processes (default: one a core)"
    )
    parser.add_argument(
        "--log",
        type=Path,
        default=Path("predictions.sqlite"),
        help="where predictions are recorded (default: %(default)s)",
    )
    parser.add_argument(
        "--keep-pictures", action="store_true", help="record the pictures themselves, too"
    )
    parser.add_argument(
        "--waiting",
        type=int,
        default=32,
        help="requests that a worker takes in at a time; others are told to come back "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--max-upload-mb", type=float, default=20.0, help="of a request (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until told to end.

    Raises:
        CarbenchError: the model or the log cannot be used, or the port is taken.
    """
    import uvicorn

    from carbench.serve.headers import HeaderLimits
    from carbench.serve.service import Service
    from carbench.serve.settings import Settings

    settings = Settings(
        model=args.model.absolute(),
        int8=args.int8,
        log=args.log.absolute(),
        keep_pictures=args.keep_pictures,
        threads=max(available_cores() // args.workers, 1),
        waiting=args.waiting,
        most_bytes=int(args.max_upload_mb * 1e6),
    )
    service = Service(settings)  # so that what is wrong is said once, and not by every worker
    refuse_taken_port(args.host, args.port)
    settings.hand_over()
    address = f"http://{args.host}:{args.port}/"
    log.info("serving %s at %s, recording in %s", service.model.version, address, args.log)
    del service
    with tempfile.TemporaryDirectory(prefix="carbench-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        uvicorn.run(
            "carbench.serve.app:create_app",
            factory=True,
            http=HeaderLimits,
            ws="none",
            host=args.host,
            port=args.port,
            workers=args.workers,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=30,
        )
    return 0


def refuse_taken_port(host: str, port: int) -> None:
    """Raise :class:`CarbenchError` if nothing can listen there."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise CarbenchError(
                f"{host}:{port}",
                found=f"an address that cannot be listened on ({error.strerror})",
                expected="one that is free",
                fix="end what uses it, or take another --port",
            ) from None
