"""Small files that are expensive to decode, and slow clients; for tests and benchmarks."""

from __future__ import annotations

import io
import socket
from typing import Any

from PIL import Image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def large_webp(megapixels: int = 40) -> bytes:
    """Return a WebP of about 9 KB that takes 2 s of one core for 40 megapixels."""
    return encoded(Image.new("RGB", (8000, megapixels * 125)), "WEBP", lossless=True, method=0)


def transparent_png(megapixels: int = 40) -> bytes:
    """Return a PNG that takes 16 bytes of memory per pixel to be composed on white."""
    return encoded(Image.new("RGBA", (4000, megapixels * 250)), "PNG", compress_level=1)


def many_scans(scans: int = 1000, megapixels: int = 39) -> bytes:
    """Return a progressive JPEG with a repeated scan: 300 KB, 20 s of one core."""
    whole = encoded(Image.new("RGB", (8000, megapixels * 125)), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * scans + b"\xff\xd9"


def half_a_body(port: int, expect: bool = False, length: int = 1000) -> socket.socket:
    """Return a connection that has sent the headers of a request and at most one body line."""
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(20)
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n"
    )
    head += "Expect: 100-continue\r\n" if expect else ""
    client.sendall(head.encode() + b"\r\n" + (b"" if expect else b"--b\r\n"))
    return client
