"""Every kind of picture file becomes an upright RGB picture, or a reason why not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from carbench.images import BadPictureError, decode, resize


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


# Left half red, right half blue; wider than high.
PICTURE = Image.new("RGB", (40, 20), "red")
PICTURE.paste("blue", (20, 0, 40, 20))


def colours(picture: Image.Image) -> tuple[str, str]:
    """The strongest channel at the left and at the right."""
    pixels = np.asarray(picture, int)
    height, width, _ = pixels.shape
    return tuple("RGB"[pixels[height // 2, x].argmax()] for x in (width // 8, -width // 8))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (encoded(PICTURE, "JPEG"), "RGB"),
        (encoded(PICTURE.convert("CMYK"), "JPEG"), "CMYK"),
        (encoded(PICTURE.quantize(8), "PNG"), "P"),
        (encoded(PICTURE.convert("RGBA"), "PNG"), "RGBA"),
        (encoded(PICTURE, "WEBP", lossless=True), "RGB"),
        (encoded(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(180)]), "P"),
        (encoded(PICTURE, "TIFF"), "RGB"),
    ],
)
def test_colours_survive(content: bytes, mode: str) -> None:
    picture, facts = decode(content)
    assert (picture.mode, picture.size) == ("RGB", (40, 20))
    assert (facts.mode, facts.width, facts.height) == (mode, 40, 20)
    assert colours(picture) == ("R", "B")


def test_a_rotated_photograph_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: turn it clockwise to see it
    stored = PICTURE.transpose(Image.Transpose.ROTATE_90)
    picture, facts = decode(encoded(stored, "JPEG", exif=exif))
    assert (facts.width, facts.height) == (20, 40)
    assert picture.size == (40, 20)
    assert colours(picture) == ("R", "B")


def test_sixteen_bits_of_grey_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(8, 0)
    picture, facts = decode(encoded(Image.fromarray(ramp), "PNG"))
    assert facts.mode == "I;16"
    grey = np.asarray(picture)[0, :, 0].astype(int)
    assert np.abs(grey - ramp[0] / 256).max() < 2


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert decode(encoded(clear, "PNG"))[0].getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"hello", "not a picture"),
        (encoded(PICTURE, "JPEG")[:300], "Truncated"),
        (encoded(PICTURE, "PNG")[:60], "truncated|broken"),
        (encoded(Image.new("1", (20_000, 20_000)), "PNG"), "too many pixels"),
    ],
)
def test_what_cannot_be_decoded_has_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(BadPictureError, match=reason) as caught:
        decode(content)
    assert str(caught.value)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_fits_give_a_square(fit: str) -> None:
    square = resize(PICTURE, 16, fit)  # type: ignore[arg-type]
    assert square.size == (16, 16)
    assert colours(square) == ("R", "B")
    top = np.asarray(square)[0]
    assert (top.std() < 20) == (fit == "pad")
