"""The decoding process: decodes and resizes images, within limits that the kernel enforces.

Image decoders are C code that cannot be interrupted within a thread, and a small file can make them
use much time and memory. They therefore run in a separate process: a timer kills it if a job takes
too long, and its address space is limited. :mod:`carbench.deploy.serve.decode_pool` restarts it.

A message, in either direction, is a line of JSON followed by the number of bytes in its ``bytes``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
import warnings
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from carbench.core.parallel import exit_with_parent
from carbench.data.images.decoding import (
    BadImageError,
    NotAnImageError,
    TooManyPixelsError,
    decode_resized,
    open_without_metadata,
)

# Decoding a JPEG at reduced size still reads each scan of all stored pixels. That takes about as
# long as decoding this part of the pixels of a PNG (2 cores, AMD EPYC: docs/serving.md).
SCAN_SHARE = 1 / 32


def estimate_work(content: bytes, size: int) -> float:
    """Estimate the work of decoding an image, in pixels, from its header only.

    A JPEG is decoded at reduced size. Each of its scans counts as a fraction of the stored pixels,
    because a file of 300 KB can have a thousand scans. 0 if the file cannot be opened.

    Args:
        content: the image file.
        size: side length in pixels that the model needs.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_without_metadata(content) as image:
                stored = image.width * image.height
                if image.format != "JPEG":
                    return stored
                image.draft(None, (2 * size, 2 * size))
                decoded = image.width * image.height
                return decoded + SCAN_SHARE * stored * max(content.count(b"\xff\xda"), 1)
    except MemoryError:
        raise
    except Exception:  # parsers raise many kinds; decoding will report the error
        return 0.0


def handle_job(job: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
    """Run a job; return its ``outcome`` and, if that is ``done``, the pixels.

    Args:
        job: ``probe`` requests only ``work``; ``size``, ``fit`` and ``most_pixels`` are those of
            :func:`carbench.data.images.decoding.decode_resized`; an image that exceeds
            ``max_decode_work`` is not decoded.
        content: the image file.
    """
    started = time.perf_counter()
    try:
        work = estimate_work(content, job["size"])
        if job.get("probe"):
            return {"outcome": "probed", "work": work}, b""
        if work > job["max_decode_work"]:
            return {"outcome": "work", "work": work}, b""
        image, facts = decode_resized(content, job["size"], job["fit"], job["most_pixels"])
        pixels = image.tobytes()
    except NotAnImageError as error:
        return {"outcome": "unknown format", "reason": str(error)}, b""
    except TooManyPixelsError:
        return {"outcome": "too many pixels"}, b""
    except BadImageError as error:
        if isinstance(error.__context__, MemoryError):
            return {"outcome": "memory"}, b""
        return {"outcome": "damaged", "reason": str(error)}, b""
    except MemoryError:
        return {"outcome": "memory"}, b""
    properties = {
        "format": facts.format,
        "width": facts.width,
        "height": facts.height,
        "animated": facts.animated,
    }
    seconds = time.perf_counter() - started
    return {"outcome": "done", "facts": properties, "seconds": seconds}, pixels


def read_message(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Read a message; return None at the end of the stream."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    content = stream.read(header["bytes"])
    return (header, content) if len(content) == header["bytes"] else None


def encode_message(header: dict[str, Any], content: bytes) -> bytes:
    """Encode a message."""
    return json.dumps(header | {"bytes": len(content)}).encode() + b"\n" + content


def serve_jobs(stream: BinaryIO) -> None:
    """Process jobs until the stream ends.

    The timers use the default action of their signals, which terminates this process: SIGALRM after
    ``seconds``, SIGPROF after ``cpu_seconds`` of CPU time.
    """
    while received := read_message(stream):
        job, content = received
        signal.setitimer(signal.ITIMER_REAL, job["seconds"])
        if job.get("cpu_seconds"):
            signal.setitimer(signal.ITIMER_PROF, job["cpu_seconds"])
        reply = encode_message(*handle_job(job, content))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        stream.write(reply)
        stream.flush()


def limit_memory(extra: int) -> None:
    """Limit the address space to its current size plus ``extra`` bytes (Linux only)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return
    import resource

    limit = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Serve on an inherited socket: ``python -m ... SOCKET MEMORY NICE``."""
    number, memory, nice = (int(each) for each in sys.argv[1:])
    # Signals to the whole process group; the worker stops this process by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # If the worker is killed, do not continue to decode a slow image.
    exit_with_parent(os.getppid())
    os.nice(nice)
    Image.preinit()
    Image.init()
    limit_memory(memory)
    connection = socket.socket(fileno=number)
    # A worker that has closed the socket or was killed reads no reply: no error.
    with (
        contextlib.suppress(BrokenPipeError, ConnectionResetError),
        connection,
        connection.makefile("rwb") as stream,
    ):
        serve_jobs(stream)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
