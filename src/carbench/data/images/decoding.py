"""Decodes image files with Pillow to upright RGB images.

All stages and the service read images only through this module.
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

from carbench.data.images.formats import FORMATS, HEADER_BYTES, rejection_reason, strip_metadata

Fit = Literal["squash", "crop", "pad"]

# Above this, Pillow suspects a decompression bomb: 2 x 89 million pixels are 0.5 GB as RGB.
Image.MAX_IMAGE_PIXELS = 89_478_485

# Pillow reads the resolution of a JPEG without JFIF header from its EXIF metadata, and rejects the
# file if that entry is malformed. The resolution is not needed here.
JpegImageFile._read_dpi_from_exif = lambda self: None  # type: ignore[method-assign]

# The operation that makes an image upright, by EXIF orientation; 1 is upright.
TRANSPOSE_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImageError(Exception):
    """A file cannot be decoded; the message is the reason."""


class NotAnImageError(BadImageError):
    """A file is not in one of the formats :data:`carbench.data.images.formats.FORMATS`."""


class TooManyPixelsError(BadImageError):
    """An image would take too much memory."""


@dataclass(frozen=True)
class ImageInfo:
    """Format and mode (Pillow's names) and size in pixels of an image file.

    ``animated`` is whether it has several frames, of which only the first is decoded.
    """

    format: str
    mode: str
    width: int
    height: int
    animated: bool


def decode(
    content: bytes, at_least: int | None = None, most_pixels: int | None = None
) -> tuple[Image.Image, ImageInfo]:
    """Decode a whole image.

    Args:
        content: content of the file, in one of :data:`carbench.data.images.formats.FORMATS`.
        at_least: sufficient side length in pixels; a much larger JPEG is then decoded at a half, a
            quarter or an eighth of its size, in a fraction of the time.
        most_pixels: maximum number of decoded pixels; each takes 3 bytes, 10 for some formats.

    Returns:
        The upright RGB image (EXIF orientation applied, transparency composited on white), and
        the information about the file as stored.

    Raises:
        NotAnImageError: the content is not an image.
        TooManyPixelsError: more than ``most_pixels`` would be decoded, or 179 million are stored.
        BadImageError: the content is empty, truncated or corrupt. Malformed EXIF metadata is not an
            error: without a readable orientation, the image is not rotated.
    """
    if not content:
        raise BadImageError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_without_metadata(content) as image:
                animated = getattr(image, "is_animated", False)
                info = ImageInfo(image.format or "", image.mode, *image.size, animated)
                if at_least is not None:
                    image.draft(None, (at_least, at_least))
                width, height = image.size
                if most_pixels is not None and width * height > most_pixels:
                    raise TooManyPixelsError(f"too many pixels ({info.width} x {info.height})")
                image.load()
                return _apply_orientation(_to_rgb(image, content), image), info
    except BadImageError:
        raise
    except UnidentifiedImageError:
        raise NotAnImageError(rejection_reason(content[:HEADER_BYTES])) from None
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(f"too many pixels ({error})") from None
    except (OSError, SyntaxError, ValueError, IndexError, EOFError, MemoryError) as error:
        raise BadImageError(str(error) or type(error).__name__) from None
    except Exception as error:
        # Pillow's parsers raise any exception for corrupt files: TypeError, struct.error, ...
        raise BadImageError(f"damaged ({type(error).__name__}: {error})") from None


def open_without_metadata(content: bytes) -> Image.Image:
    """Open an image file without its metadata; only the header is read.

    Raises:
        Exception: any exception of Pillow for content that it cannot open.
    """
    return Image.open(io.BytesIO(strip_metadata(content)), formats=FORMATS)


def read_image(path: Path) -> Image.Image:
    """Decode an image file that fetch has already accepted."""
    return decode(path.read_bytes())[0]


def decode_resized(
    content: bytes, size: int, fit: Fit, most_pixels: int | None = None
) -> tuple[Image.Image, ImageInfo]:
    """Return the model input for an image file, decoded and resized with :func:`resize`.

    The image is decoded at no less than twice the size, which does not affect the resized image
    visibly. Arguments, returned information and errors are those of :func:`decode`.
    """
    image, info = decode(content, 2 * size, most_pixels)
    return resize(image, size, fit), info


def resize(image: Image.Image, size: int, fit: Fit) -> Image.Image:
    """Return an RGB image of ``size`` x ``size`` pixels.

    ``squash`` changes the aspect ratio, ``crop`` removes the ends of the longer side, ``pad`` adds
    grey margins.
    """
    square = (size, size)
    if fit == "squash":
        return image.resize(square, Image.Resampling.BICUBIC, reducing_gap=3.0)
    if fit == "crop":
        return ImageOps.fit(image, square, Image.Resampling.BICUBIC)
    return ImageOps.pad(image, square, Image.Resampling.BICUBIC, color=(124, 116, 104))


def _apply_orientation(decoded: Image.Image, image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation of the file; return an image that does not depend on the file.

    ImageOps.exif_transpose rewrites all EXIF entries and fails if one is malformed.
    """
    try:
        operation = TRANSPOSE_OF_ORIENTATION.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        operation = None
    if operation is not None:
        return decoded.transpose(operation)
    return decoded.copy() if decoded is image else decoded


def _to_rgb(image: Image.Image, content: bytes) -> Image.Image:
    """Return the image as RGB, with transparency composited on white."""
    if image.mode in ("I", "F"):
        raise BadImageError(
            f"{image.format} of 32-bit, signed or floating-point values, whose range is unknown; "
            "convert it to 8 or 16 bits"
        )
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.format == "PNG" and "transparency" in image.info:
        _scale_transparent_value(image, depth=content[24])
    layers = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, layers).convert("RGB")


def _scale_transparent_value(image: Image.Image, depth: int) -> None:
    """Scale the transparent value of a PNG to 8 bits, like its pixels.

    Pillow scales pixels of 2, 4 and 16 bits to 8 bits, but not this value.
    """
    value = image.info["transparency"]
    if image.mode == "L" and depth in (2, 4):
        most = 2**depth - 1
        image.info["transparency"] = (value & most) * 255 // most
    elif image.mode == "RGB" and depth == 16:
        raise BadImageError(
            "PNG with one transparent colour of 16 bits, which is indistinguishable from its "
            "neighbours in 8 bits; convert it to 8 bits"
        )


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Scale grey values of up to 16 bits to 8 bits; convert() would clip them at 255."""
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
