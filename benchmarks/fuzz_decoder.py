"""Fuzz the decoder with random metadata in valid images of every format.

`python benchmarks/fuzz_decoder.py --images 20000` writes random EXIF entries, segments, chunks,
extension blocks and tags into images without changing their pixels, and decodes them. Each must be
decoded to its own pixels, rotated according to its orientation, or be rejected with a reason.
Prints one row per format; exits with status 1 if another exception was raised or pixels differ.
"""

from __future__ import annotations

import argparse
import io
import random
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable

import numpy as np
from PIL import Image

from carbench.data.images.decoding import TRANSPOSE_OF_ORIENTATION, BadImageError, decode

Make = Callable[[random.Random], tuple[bytes, int]]
ORIENTATION = 0x0112
# Tags that Pillow or another reader interprets, used besides random ones.
TAGS = (0x0132, 0x011A, 0x011B, 0x0128, 0x8769, 0x8825, 0xA005, 0x8773, 0x02BC, 0xB001, 0x83BB)
OPTIONS: dict[str, dict[str, object]] = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}


def main() -> None:
    """Decode images and print the number of outcomes by format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    makers = {"JPEG": jpeg, "PNG": png, "WEBP": webp, "TIFF": tiff, "GIF": gif, "BMP": bmp}
    results: dict[str, Counter[str]] = {name: Counter() for name in makers}
    for number in range(args.images):
        name = list(makers)[number % len(makers)]
        # Each image has its own generator, so that it can be reproduced alone.
        results[name][outcome(name, makers[name], random.Random(f"{args.seed}-{number}"))] += 1
    kinds = ("own pixels", "rejected", "other pixels", "uncaught")
    print(f"{'format':8s}" + "".join(f"{kind:>14s}" for kind in kinds))
    for name, counts in results.items():
        print(f"{name:8s}" + "".join(f"{counts[kind]:14,}" for kind in kinds))
    sys.exit(any(counts[kind] for counts in results.values() for kind in kinds[2:]))


def outcome(name: str, make: Make, rng: random.Random) -> str:
    """Create one image, decode it, and return the outcome."""
    content, orientation = make(rng)
    try:
        pixels = np.asarray(decode(content)[0])
    except BadImageError as reason:
        return "rejected" if str(reason) else "uncaught"
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        return "uncaught"
    stored = decode(encoded(name))[0]
    turn = TRANSPOSE_OF_ORIENTATION.get(orientation)
    expected = np.asarray(stored if turn is None else stored.transpose(turn))
    return "own pixels" if np.array_equal(pixels, expected) else "other pixels"


def encoded(name: str) -> bytes:
    """Return an image of two colours, wider than high and without metadata, in a format."""
    image = Image.new("RGB", (24, 16), "red")
    image.paste("blue", (12, 0, 24, 16))
    file = io.BytesIO()
    image.save(file, name, **OPTIONS.get(name, {}))
    return file.getvalue()


def noise(rng: random.Random, most: int) -> bytes:
    """Return up to ``most`` random bytes."""
    return rng.randbytes(rng.randrange(most))


def entry(rng: random.Random) -> tuple[int, int, int, bytes]:
    """Return a random EXIF or TIFF entry: tag, type, count, and value or offset.

    Tags are above the orientation's: entries are sorted, and readers stop at an entry that points
    outside the file.
    """
    tag = rng.choice([*TAGS, rng.randrange(ORIENTATION + 8, 0x10000)])
    count = rng.choice((0, 1, 2, 4, 8, rng.getrandbits(32)))
    return tag, rng.randrange(14), count, rng.randbytes(4)


def exif(rng: random.Random) -> tuple[bytes, int]:
    """Return an EXIF block with random entries beside its orientation, and the orientation."""
    orientation = rng.randrange(10)
    entries = [(ORIENTATION, 3, 1, struct.pack("<HH", orientation, 0))]
    entries += sorted(entry(rng) for _ in range(rng.randrange(6)))
    listed = b"".join(struct.pack("<HHI4s", *each) for each in entries)
    end = struct.pack("<I", rng.choice((0, 8, rng.getrandbits(32))))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + end + noise(
        rng, 64
    ), orientation


def jpeg(rng: random.Random) -> tuple[bytes, int]:
    """Return a JPEG with random application segments and comments, and its orientation."""
    content = encoded("JPEG")
    block, orientation = exif(rng)
    known = (b"JFIF\0", b"MPF\0II*\0", b"ICC_PROFILE\0\1\1", b"Photoshop 3.0\0", b"http://ns", b"")
    segments = [(0xE1, b"Exif\0\0" + block)]
    for _ in range(rng.randrange(4)):
        marker = rng.choice([*range(0xE2, 0xEE), 0xEF, 0xFE, 0xE0, 0xE1])
        # A second EXIF block would bring another orientation; Adobe's segment (0xEE) describes the
        # pixels.
        segments.insert(
            rng.randrange(len(segments) + 1), (marker, rng.choice(known) + noise(rng, 90))
        )
    body = b"".join(
        struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in segments
    )
    keeps_jfif = rng.random() < 0.5
    return content[:2] + (content[2:20] if keeps_jfif else b"") + body + content[20:], orientation


def png(rng: random.Random) -> tuple[bytes, int]:
    """Return a PNG with random ancillary chunks around its pixels, and its orientation."""
    content = encoded("PNG")
    block, orientation = exif(rng)
    chunks = {True: [(b"eXIf", block)], False: []}
    for _ in range(rng.randrange(4)):
        name = rng.choice((b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"pHYs"))
        packed = b"a\0\0" + zlib.compress(bytes(rng.choice((9, 2_000_000))))
        chunks[rng.random() < 0.7].append((name, rng.choice((packed, noise(rng, 90)))))
    before, after = (
        b"".join(chunk(*each, rng) for each in chunks[where]) for where in (True, False)
    )
    return content[:33] + before + content[33:-12] + after + content[-12:], orientation


def chunk(name: bytes, data: bytes, rng: random.Random) -> bytes:
    """Return a PNG chunk; its checksum is sometimes wrong, but never in the EXIF chunk."""
    checksum = zlib.crc32(name + data)
    if name != b"eXIf" and rng.random() < 0.1:
        checksum ^= 1
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def webp(rng: random.Random) -> tuple[bytes, int]:
    """Return a WebP with random EXIF, XMP and colour profile, and its orientation."""
    block, orientation = exif(rng)
    image = Image.open(io.BytesIO(encoded("WEBP")))
    file = io.BytesIO()
    extra = {"xmp": noise(rng, 90), "icc_profile": noise(rng, 90)}
    image.save(file, "WEBP", lossless=True, exif=b"Exif\0\0" + block, **extra)
    return file.getvalue(), orientation


def tiff(rng: random.Random) -> tuple[bytes, int]:
    """Return a TIFF with random tags that do not describe its pixels, and its orientation."""
    orientation = rng.randrange(1, 9)
    pixels = np.asarray(decode(encoded("TIFF"))[0])
    height, width, _ = pixels.shape
    end = 8 + pixels.size
    needed = {
        256: (3, width), 257: (3, height), 258: (3, 8), 259: (3, 1), 262: (3, 2), 273: (4, 8),
        274: (3, orientation), 277: (3, 3), 278: (3, height), 279: (4, pixels.size),
    }  # fmt: skip
    tags = [(tag, kind, 1, struct.pack("<I", value)) for tag, (kind, value) in needed.items()]
    # Three samples of 8 bits do not fit into an entry; they are stored after the pixels.
    tags[2] = (258, 3, 3, struct.pack("<I", end))
    about_pixels = {*needed, 317, 318, 320, 322, 323, 324, 325, 330, 338, 339, 347, 530, 532}
    tags += [each for _ in range(rng.randrange(6)) if (each := entry(rng))[0] not in about_pixels]
    directory = b"".join(struct.pack("<HHI4s", *each) for each in sorted(tags))
    header = b"II*\0" + struct.pack("<I", end + 6)
    body = pixels.tobytes() + struct.pack("<HHH", 8, 8, 8)
    return header + body + struct.pack("<H", len(tags)) + directory + bytes(4), orientation


def gif(rng: random.Random) -> tuple[bytes, int]:
    """Return a GIF with random comments and application extensions, and its orientation."""
    content = encoded("GIF")
    start = content.index(b",", 13 + 3 * 2 ** ((content[10] & 7) + 1))
    blocks = b""
    for _ in range(rng.randrange(4)):
        data = noise(rng, 200)
        size = bytes([len(data)]) if data else b""
        blocks += b"!" + rng.choice((b"\xfe", b"\xff", b"\x01")) + size + data + b"\0"
    return content[:start] + blocks + content[start:], 1


def bmp(rng: random.Random) -> tuple[bytes, int]:
    """Return a BMP with random resolution and numbers of colours, and its orientation."""
    content = bytearray(encoded("BMP"))
    content[38:46] = rng.randbytes(8)
    return bytes(content), 1


if __name__ == "__main__":
    main()
