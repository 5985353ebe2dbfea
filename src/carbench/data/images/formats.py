"""Detects image formats and removes metadata before decoding.

The decoder needs only pixels and orientation. Other metadata (text, thumbnails, colour profiles,
resolutions) has no effect here, but is often malformed and breaks parsers.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

# Pillow's names of the supported formats. The decoders of others are rarely used, or run external
# programs (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

# Usual extensions of these formats; the content decides.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

# Bytes at the start of a file that :func:`detect_format` needs.
HEADER_BYTES = 512

SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\1\0", "ICO"),
    (b"%PDF-", "PDF"),
    (b"%!PS", "PostScript"),
    (b"PK\3\4", "ZIP"),
    (b"Rar!", "RAR"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x1f\x8b", "gzip"),
    (b"version https://git-lfs", "Git LFS pointer"),
)
# ISO base media files: the brand follows `ftyp`.
BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"crx ": "CR3"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"
)
CONVERTIBLE = {"HEIC", "AVIF", "JPEG XL", "JPEG 2000", "Photoshop", "ICO", "CR3", "SVG"}

# The PNG chunks that are needed for decoding, and the EXIF orientation.
PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"acTL", b"fcTL", b"fdAT"}
JPEG_JFIF, JPEG_EXIF, JPEG_ADOBE, JPEG_COMMENT = 0xE0, 0xE1, 0xEE, 0xFE


def detect_format(start: bytes) -> str | None:
    """Return the format of a file, given its first :data:`HEADER_BYTES` bytes or more.

    One of :data:`FORMATS`, another known format (``HEIC``, ``HTML``, ...), or None.
    """
    for signature, name in SIGNATURES:
        if start.startswith(signature):
            return name
    if start[:4] == b"RIFF":
        return "WEBP" if start[8:12] == b"WEBP" else None
    if start[4:8] == b"ftyp":
        return BRANDS.get(start[8:12], "video")
    # The signature is only two letters; also check the reserved bytes and the header size.
    if start[:2] == b"BM" and start[6:10] == bytes(4) and start[15:18] == bytes(3):
        return "BMP"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<script")):
        return "HTML"
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "SVG"
    return None


def rejection_reason(start: bytes) -> str:
    """Return why a file is not an image in one of :data:`FORMATS`."""
    name = detect_format(start)
    if name in CONVERTIBLE:
        return f"not an image in a supported format but {name}; convert it to JPEG or PNG"
    if name in FORMATS:
        return f"a damaged {name}, or a kind of it that Pillow cannot read"
    return f"not an image but {name}" if name else "not an image"


def strip_metadata(content: bytes) -> bytes:
    """Return a JPEG or PNG without metadata except EXIF; other formats unchanged.

    Content that does not follow the format is kept for the decoder.
    """
    if content.startswith(b"\xff\xd8\xff"):
        return b"".join(_jpeg_parts(content))
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"".join(_png_parts(content))
    return content


def _jpeg_parts(content: bytes) -> Iterator[bytes]:
    yield content[:2]
    at = 2
    while content[at : at + 1] == b"\xff" and at + 4 <= len(content):
        marker = content[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        end = at + 2 + length
        is_last = marker == 0xDA or length < 2 or end > len(content)
        if is_last or 0xD0 <= marker <= 0xD9 or marker < 0xC0:
            break
        if _is_needed_segment(marker, content[at + 4 : end]):
            yield content[at:end]
        at = end
    yield content[at:]


def _is_needed_segment(marker: int, data: bytes) -> bool:
    """Return whether a JPEG segment is needed for decoding or has the orientation."""
    if marker == JPEG_JFIF:
        return data.startswith(b"JFIF\0") and len(data) >= 14
    if marker == JPEG_EXIF:
        return data.startswith(b"Exif\0")
    return marker == JPEG_ADOBE or not (JPEG_JFIF <= marker <= 0xEF or marker == JPEG_COMMENT)


def _png_parts(content: bytes) -> Iterator[bytes]:
    yield content[:8]
    at = 8
    while at + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if end > len(content):
            break
        if name in PNG_CHUNKS and (name != b"eXIf" or _has_valid_crc(content[at:end])):
            yield content[at:end]
        at = end
        if name == b"IEND":
            return
    yield content[at:]


def _has_valid_crc(chunk: bytes) -> bool:
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
