"""The decoding process: image files in, small RGB images out, within limits the kernel enforces.

Image decoders are C code that no thread can be made to leave, and whose time and memory a small
file can drive up. So they run in a process of their own: a timer ends it when a job takes too
long, and its address space is limited. :mod:`carbench.deploy.serve.decoding` starts it again.

A message, in either direction, is a line of JSON followed by as many bytes as its ``bytes`` says.
"""

from __future__ import annotations

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

from carbench.core.parallel import end_with_parent
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


def work_of(content: bytes, size: int) -> float:
    """Return how much work an image is: the pixels that are decoded, from its header alone.

    A JPEG is decoded at reduced size; each of its scans counts a part of its stored pixels, since
    a file of 300 KB can have a thousand of them. 0 for what cannot be opened.

    Args:
        content: the file.
        size: pixels of both sides that the model needs.
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
    except Exception:  # whatever a parser raises, decoding will say what is wrong
        return 0.0


def handle(job: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the reply to a job: ``outcome``, and the pixels if it is ``done``.

    Args:
        job: ``probe`` asks for ``work`` only; ``size``, ``fit`` and ``most_pixels`` are of
            :func:`carbench.data.images.decoding.decode_resized`; more than ``most_work`` is not
            begun.
        content: the image file.
    """
    started = time.perf_counter()
    try:
        work = work_of(content, job["size"])
        if job.get("probe"):
            return {"outcome": "probed", "work": work}, b""
        if work > job["most_work"]:
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
    seen = {
        "format": facts.format,
        "width": facts.width,
        "height": facts.height,
        "animated": facts.animated,
    }
    seconds = time.perf_counter() - started
    return {"outcome": "done", "facts": seen, "seconds": seconds}, pixels


def receive(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Read a message; None at the end of the stream."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    content = stream.read(header["bytes"])
    return (header, content) if len(content) == header["bytes"] else None


def message(header: dict[str, Any], content: bytes) -> bytes:
    """Return a message as bytes."""
    return json.dumps(header | {"bytes": len(content)}).encode() + b"\n" + content


def serve(stream: BinaryIO) -> None:
    """Answer jobs until the stream ends.

    The timers have the default action of their signals, which is the end of this process: SIGALRM
    after ``seconds``, SIGPROF after ``cpu_seconds`` of processor time.
    """
    while received := receive(stream):
        job, content = received
        signal.setitimer(signal.ITIMER_REAL, job["seconds"])
        if job.get("cpu_seconds"):
            signal.setitimer(signal.ITIMER_PROF, job["cpu_seconds"])
        reply = message(*handle(job, content))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        stream.write(reply)
        stream.flush()


def limit_memory(extra: int) -> None:
    """Limit the address space to what is used now and ``extra`` bytes. On Linux only."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return
    import resource

    most = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """Serve on an inherited socket: ``python -m ... SOCKET MEMORY NICE``."""
    number, memory, nice = (int(each) for each in sys.argv[1:])
    # The signals go to the whole process group; the worker ends this process by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # If the worker is killed, an image that takes long is not decoded to its end.
    end_with_parent(os.getppid())
    os.nice(nice)
    Image.preinit()
    Image.init()
    limit_memory(memory)
    with socket.socket(fileno=number) as connection, connection.makefile("rwb") as stream:
        serve(stream)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
