"""Image files of all kinds are decoded to upright RGB images, or rejected with a reason."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from carbench.data.images.decoding import TRANSPOSE_OF_ORIENTATION, BadImageError, decode, resize


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# Left half red, right half blue; wider than high.
IMAGE = Image.new("RGB", (40, 20), "red")
IMAGE.paste("blue", (20, 0, 40, 20))


def colours(image: Image.Image) -> tuple[str, str]:
    """Return the strongest channel on the left and on the right."""
    pixels = np.asarray(image, int)
    height, width, _ = pixels.shape
    return tuple("RGB"[pixels[height // 2, x].argmax()] for x in (width // 8, -width // 8))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (encoded(IMAGE, "JPEG"), "RGB"),
        (encoded(IMAGE.convert("CMYK"), "JPEG"), "CMYK"),
        (encoded(IMAGE.quantize(8), "PNG"), "P"),
        (encoded(IMAGE.convert("RGBA"), "PNG"), "RGBA"),
        (encoded(IMAGE, "WEBP", lossless=True), "RGB"),
        (encoded(IMAGE, "GIF", save_all=True, append_images=[IMAGE.rotate(180)]), "P"),
        (encoded(IMAGE, "TIFF"), "RGB"),
    ],
)
def test_colours_are_preserved(content: bytes, mode: str) -> None:
    image, facts = decode(content)
    assert (image.mode, image.size) == ("RGB", (40, 20))
    assert (facts.mode, facts.width, facts.height) == (mode, 40, 20)
    assert colours(image) == ("R", "B")


def test_a_rotated_image_is_made_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: turn it clockwise to see it
    stored = IMAGE.transpose(Image.Transpose.ROTATE_90)
    image, facts = decode(encoded(stored, "JPEG", exif=exif))
    assert (facts.width, facts.height) == (20, 40)
    assert image.size == (40, 20)
    assert colours(image) == ("R", "B")


def exif(orientation: int, *entries: tuple[int, int, int, bytes]) -> bytes:
    """Return EXIF metadata; entries are (tag, type, count, value or offset)."""
    entries = ((0x0112, 3, 1, struct.pack("<HH", orientation, 0)), *entries)
    listed = (struct.pack("<HHI4s", *entry) for entry in sorted(entries))
    tiff = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(listed)
    return b"Exif\0\0" + tiff + struct.pack("<I", 0) + bytes(range(64))


KINDS = ("JPEG", "PNG", "WEBP")
LOSSLESS = {"JPEG": {"quality": 95, "dpi": (72, 72)}, "PNG": {}, "WEBP": {"lossless": True}}


def with_exif(kind: str, content: bytes) -> bytes:
    options: dict[str, object] = LOSSLESS[kind]  # type: ignore[assignment]
    return encoded(IMAGE, kind, exif=content, **options)


@cache
def stored(kind: str) -> Image.Image:
    return decode(encoded(IMAGE, kind, **LOSSLESS[kind]))[0]  # type: ignore[arg-type]


def turned(image: Image.Image, orientation: int) -> np.ndarray:
    turn = TRANSPOSE_OF_ORIENTATION.get(orientation)
    return np.asarray(image if turn is None else image.transpose(turn))


ODD_ENTRIES = {
    "a number that is text": (0x011B, 2, 4, b"abc\0"),
    "a rational that is bytes": (0x011B, 1, 4, b"\1\2\3\4"),
    "a rational outside of the data": (0x011B, 5, 1, b"\xff\xff\xff\x7f"),
    "a resolution without a value": (0x011A, 2, 0, bytes(4)),
    "a signed number below zero": (0x0100, 9, 1, b"\xff\xff\xff\xff"),
    "a float where a pointer is": (0x8769, 11, 1, b"\0\0\x80\x3f"),
    "an unknown type": (0x0131, 99, 1, bytes(4)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("entry", ODD_ENTRIES)
def test_a_rotated_image_with_a_malformed_entry_is_decoded(kind: str, entry: str) -> None:
    units = (0x0128, 3, 1, struct.pack("<HH", 2, 0))  # Pillow reads a resolution with its unit only
    content = with_exif(kind, exif(6, units, ODD_ENTRIES[entry]))
    assert (np.asarray(decode(content)[0]) == turned(stored(kind), 6)).all()


def test_the_resolution_of_a_jpeg_is_not_read() -> None:
    """Without a JFIF header, Pillow would read it from the EXIF metadata."""
    units = (0x0128, 3, 1, struct.pack("<HH", 2, 0))
    content = with_exif("JPEG", exif(6, units, ODD_ENTRIES["a resolution without a value"]))
    start = content.index(b"\xff\xe0")
    length = int.from_bytes(content[start + 2 : start + 4], "big")
    content = content[:start] + content[start + 2 + length :]
    assert (np.asarray(decode(content)[0]) == turned(stored("JPEG"), 6)).all()


# After the orientation, by which entries are sorted: Pillow stops at one that leads nowhere.
ENTRIES = st.tuples(
    st.sampled_from((0x011A, 0x011B, 0x0128, 0x0132, 0x8769, 0x8825, 0xA005))
    | st.integers(0x0113, 0xFFFF),
    st.integers(0, 14),
    st.integers(0, 8) | st.integers(0, 2**32 - 1),
    st.binary(min_size=4, max_size=4),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 9), st.lists(ENTRIES, max_size=6))
def test_other_metadata_does_not_affect_the_orientation(
    kind: str, orientation: int, entries: list[tuple[int, int, int, bytes]]
) -> None:
    content = with_exif(kind, exif(orientation, *entries))
    assert (np.asarray(decode(content)[0]) == turned(stored(kind), orientation)).all()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), st.binary(max_size=200), st.booleans())
def test_an_image_with_random_metadata_is_decoded(kind: str, noise: bytes, begins: bool) -> None:
    """The noise may contain an orientation; apart from that, the pixels are bit-identical."""
    content = with_exif(kind, b"Exif\0\0" + (b"II*\0\x08\0\0\0" if begins else b"") + noise)
    pixels = np.asarray(decode(content)[0])
    assert any(np.array_equal(pixels, turned(stored(kind), number)) for number in range(1, 9))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_a_truncated_animation_is_rejected_or_gives_its_first_frame(kind: str) -> None:
    others = [IMAGE.rotate(angle) for angle in (90, 180, 270)]
    content = encoded(IMAGE, kind, save_all=True, append_images=others)
    first = decode(content)[0].tobytes()
    for length in range(0, len(content), 1 + len(content) // 1000):
        try:
            image, _ = decode(content[:length])
        except BadImageError as reason:
            assert str(reason)
        else:
            assert image.tobytes() == first


@pytest.mark.parametrize("raised", [AttributeError("x"), OverflowError(), struct.error(), KeyError])
def test_any_exception_of_pillow_becomes_a_bad_image_error(
    monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    def load(self: object) -> None:
        raise raised

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(BadImageError, match="damaged"):
        decode(encoded(IMAGE, "PNG"))


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_not_converted(
    monkeypatch: pytest.MonkeyPatch, raised: type[BaseException]
) -> None:
    def getexif(self: object) -> None:
        raise raised

    monkeypatch.setattr("PIL.Image.Image.getexif", getexif)
    with pytest.raises(raised):
        decode(encoded(IMAGE, "JPEG"))


def png(depth: int, colour: int, row: bytes, width: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of one row, with bit depths and chunks that Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    middle = b"".join(chunk(*each) for each in chunks)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + pixels + chunk(b"IEND", b"")


def tiff(values: np.ndarray, sample_format: int, white: int = 1) -> bytes:
    """Return a grey TIFF of ``values`` (sample format 1: unsigned, 2: signed, 3: float)."""
    order, mark = (">", b"MM\0*") if values.dtype.byteorder == ">" else ("<", b"II*\0")
    height, width = values.shape
    tags = {256: width, 257: height, 258: 8 * values.itemsize, 259: 1, 262: white, 273: 8, 277: 1}
    tags |= {278: height, 279: values.nbytes, 339: sample_format}
    entries = (
        struct.pack(f"{order}HHI", tag, 3, 1) + struct.pack(f"{order}HH", value, 0)
        for tag, value in tags.items()
    )
    directory = struct.pack(f"{order}H", len(tags)) + b"".join(entries) + bytes(4)
    return mark + struct.pack(f"{order}I", 8 + values.nbytes) + values.tobytes() + directory


RAMP = np.linspace(0, 65535, 64)[None].repeat(8, 0)
WHITE = (255, 255, 255)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(Image.fromarray(RAMP.astype(np.uint16)), "PNG"), RAMP),
        (tiff(RAMP.astype("<u2"), 1), RAMP),
        (tiff(RAMP.astype(">u2"), 1), RAMP),
        (tiff(RAMP.astype("<u2"), 1, white=0), 65535 - RAMP),
    ],
)
def test_16_bit_grey_is_scaled_not_clipped(content: bytes, expected: np.ndarray) -> None:
    image, facts = decode(content)
    assert facts.mode.startswith("I;16")
    grey = np.asarray(image)[:, :, 0].astype(int)
    assert np.abs(grey - expected / 256).max() < 2


@pytest.mark.parametrize(
    "content",
    [
        tiff(RAMP.astype("<f4") / 65535, 3),
        tiff(RAMP.astype("<u4"), 1),
        tiff((RAMP / 2).astype("<i2"), 2),
    ],
)
def test_values_of_unknown_range_are_rejected(content: bytes) -> None:
    with pytest.raises(BadImageError, match="convert it to 8 or 16 bits"):
        decode(content)


def test_transparency_is_composited_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert decode(encoded(clear, "PNG"))[0].getpixel((4, 4)) == WHITE


@pytest.mark.parametrize(
    ("content", "colours"),
    [
        (png(1, 0, b"\x80", 2, (b"tRNS", b"\0\1")), [WHITE, (0, 0, 0)]),
        (png(2, 0, b"\x18", 3, (b"tRNS", b"\0\1")), [(0, 0, 0), WHITE, (170, 170, 170)]),
        (png(4, 0, b"\x30", 2, (b"tRNS", b"\0\3")), [WHITE, (0, 0, 0)]),
        (png(8, 0, b"\x07\x08", 2, (b"tRNS", b"\0\7")), [WHITE, (8, 8, 8)]),
        (png(16, 0, b"\x40\0\x40\1", 2, (b"tRNS", b"\x40\0")), [WHITE, (64, 64, 64)]),
        (
            png(8, 2, b"\xff\0\0\0\xff\0", 2, (b"tRNS", b"\0\xff\0\0\0\0")),
            [WHITE, (0, 255, 0)],
        ),
        (
            png(8, 3, b"\0\1", 2, (b"PLTE", b"\xff\0\0\0\xff\0"), (b"tRNS", b"\0")),
            [WHITE, (0, 255, 0)],
        ),
    ],
)
def test_a_single_transparent_colour_is_composited_on_white(
    content: bytes, colours: list[tuple[int, int, int]]
) -> None:
    image, _ = decode(content)
    assert [image.getpixel((x, 0)) for x in range(image.width)] == colours


def test_a_16_bit_transparent_colour_is_rejected() -> None:
    content = png(16, 2, bytes(12), 2, (b"tRNS", bytes(6)))
    with pytest.raises(BadImageError, match="transparent colour of 16 bits"):
        decode(content)


def test_a_png_with_text_and_broken_metadata_is_decoded() -> None:
    text = (b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000)))
    content = png(8, 2, b"\1\2\3", 1, text, (b"pHYs", b"\0"), (b"iCCP", b"x"), (b"cHRM", b"y"))
    assert decode(content)[0].getpixel((0, 0)) == (1, 2, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"hello", "^not an image$"),
        (b"<!DOCTYPE html><html>404</html>", "not an image but HTML"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC; convert it"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "a damaged PNG"),
        (encoded(IMAGE, "JPEG")[:300], "Truncated"),
        (encoded(IMAGE, "PNG")[:60], "truncated|broken"),
        (encoded(Image.new("1", (20_000, 20_000)), "PNG"), "too many pixels"),
    ],
)
def test_undecodable_content_is_rejected_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(BadImageError, match=reason) as caught:
        decode(content)
    assert str(caught.value)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_every_fit_gives_a_square_image(fit: str) -> None:
    square = resize(IMAGE, 16, fit)  # type: ignore[arg-type]
    assert square.size == (16, 16)
    assert colours(square) == ("R", "B")
    top = np.asarray(square)[0]
    assert (top.std() < 20) == (fit == "pad")
