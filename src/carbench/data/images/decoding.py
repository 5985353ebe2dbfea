"""What an image file is to carbench: bytes that Pillow decodes, turned upright, as RGB.

Every stage and the service read images through this module and no other way.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from carbench.data.images.formats import FORMATS, START, why_not, without_metadata

Fit = Literal["squash", "crop", "pad"]

# Above this, Pillow suspects a decompression bomb: 2 x 89 million pixels are 0.5 GB as RGB.
Image.MAX_IMAGE_PIXELS = 89_478_485

# When it opens a JPEG without JFIF header, Pillow looks up its resolution in the EXIF metadata, and
# takes the file for no image if that entry is odd. Nothing here needs the resolution.
JpegImageFile._read_dpi_from_exif = lambda self: None  # type: ignore[method-assign]

# How an image is turned upright, by the EXIF orientation that it has; 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImageError(Exception):
    """A file that cannot be decoded; the text is the reason, for a person."""


class NotAnImageError(BadImageError):
    """A file that is not of a format in :data:`carbench.data.images.formats.FORMATS`."""


class TooManyPixelsError(BadImageError):
    """An image that would take too much memory."""


@dataclass(frozen=True)
class ImageFacts:
    """What an image's file says of itself: format and mode as Pillow names them, pixels.

    ``animated`` is whether it holds several images, of which the first counts.
    """

    format: str
    mode: str
    width: int
    height: int
    animated: bool


def decode(
    content: bytes, at_least: int | None = None, most_pixels: int | None = None
) -> tuple[Image.Image, ImageFacts]:
    """Decode a whole image.

    Args:
        content: the file's bytes, in any of :data:`carbench.data.images.formats.FORMATS`.
        at_least: pixels of both sides that suffice; a JPEG that is several times as large is then
            decoded at a half, a quarter or an eighth of its size, in a fraction of the time.
        most_pixels: to be decoded, at most; 3 bytes of memory each, for some formats 10.

    Returns:
        The upright RGB image (EXIF orientation applied; transparency laid on white) and the
        facts of the file as stored.

    Raises:
        NotAnImageError: the bytes are no image.
        TooManyPixelsError: more than ``most_pixels`` would be decoded, or 179 million are stored.
        BadImageError: the bytes are empty, truncated or corrupt. Malformed EXIF metadata is no
            reason: an image whose orientation cannot be read is taken as stored.
    """
    if not content:
        raise BadImageError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_stored(content) as image:
                animated = getattr(image, "is_animated", False)
                facts = ImageFacts(image.format or "", image.mode, *image.size, animated)
                if at_least is not None:
                    image.draft(None, (at_least, at_least))
                width, height = image.size
                if most_pixels is not None and width * height > most_pixels:
                    raise TooManyPixelsError(f"too many pixels ({facts.width} x {facts.height})")
                image.load()
                return _upright(_rgb(image, content), image), facts
    except BadImageError:
        raise
    except UnidentifiedImageError:
        raise NotAnImageError(why_not(content[:START])) from None
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(f"too many pixels ({error})") from None
    except (OSError, SyntaxError, ValueError, IndexError, EOFError, MemoryError) as error:
        raise BadImageError(str(error) or type(error).__name__) from None
    except Exception as error:
        # Pillow's parsers meet damage with whatever Python raises: TypeError, struct.error, ...
        raise BadImageError(f"damaged ({type(error).__name__}: {error})") from None


def open_stored(content: bytes) -> Image.Image:
    """Open an image file without its metadata; only its header is read.

    Raises:
        Exception: whatever Pillow raises about bytes that it cannot open.
    """
    return Image.open(io.BytesIO(without_metadata(content)), formats=FORMATS)


def read(path: Path) -> Image.Image:
    """Decode an image file that fetch has already accepted."""
    return decode(path.read_bytes())[0]


def shrink(
    content: bytes, size: int, fit: Fit, most_pixels: int | None = None
) -> tuple[Image.Image, ImageFacts]:
    """Return what models are shown of an image file: decoded, and resized as :func:`resize` does.

    Decoded at no less than twice the size, where nothing is lost that resizing would have kept.
    Arguments and errors are those of :func:`decode`; returned are also the facts of the file.
    """
    image, facts = decode(content, 2 * size, most_pixels)
    return resize(image, size, fit), facts


def resize(image: Image.Image, size: int, fit: Fit) -> Image.Image:
    """Return an RGB image of ``size`` x ``size`` pixels.

    ``squash`` keeps the whole image and gives up its shape, ``crop`` keeps the shape and gives
    up the edges of the longer side, ``pad`` keeps both and fills with grey.
    """
    square = (size, size)
    if fit == "squash":
        return image.resize(square, Image.Resampling.BICUBIC, reducing_gap=3.0)
    if fit == "crop":
        return ImageOps.fit(image, square, Image.Resampling.BICUBIC)
    return ImageOps.pad(image, square, Image.Resampling.BICUBIC, color=(124, 116, 104))


def _upright(decoded: Image.Image, image: Image.Image) -> Image.Image:
    """Turn what was decoded as the file's EXIF orientation says; return it apart from the file.

    Not by ImageOps.exif_transpose, which writes all EXIF entries again, and fails if one is odd.
    """
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        turn = None
    if turn is not None:
        return decoded.transpose(turn)
    return decoded.copy() if decoded is image else decoded


def _rgb(image: Image.Image, content: bytes) -> Image.Image:
    """Return the image as RGB, transparency laid on white: itself if it is that already."""
    if image.mode in ("I", "F"):
        raise BadImageError(
            f"{image.format} of 32-bit, signed or floating-point values, whose range is not "
            "stated; convert it to 8 or 16 bits"
        )
    if image.mode.startswith("I;16"):
        return _from_sixteen_bits(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.format == "PNG" and "transparency" in image.info:
        _scale_transparent_value(image, depth=content[24])
    layers = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, layers).convert("RGB")


def _scale_transparent_value(image: Image.Image, depth: int) -> None:
    """State the one transparent value of a PNG as its pixels are stated, in 8 bits.

    Pillow scales pixels of 2 and 4 bits up and those of 16 bits down, but not this value.
    """
    value = image.info["transparency"]
    if image.mode == "L" and depth in (2, 4):
        most = 2**depth - 1
        image.info["transparency"] = (value & most) * 255 // most
    elif image.mode == "RGB" and depth == 16:
        raise BadImageError(
            "PNG with one transparent colour of 16 bits, which cannot be told from its "
            "neighbours in 8 bits; convert it to 8 bits"
        )


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """Scale grey values of up to 16 bits to 8; convert() would clip all above 255 to white."""
    values = np.asarray(image).astype(np.uint16)
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(ExifTags.Base.BitsPerSample, (16,))
    grey = (values >> (bits[0] - 8)).astype(np.uint8)
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # TIFF: zero is white
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")
