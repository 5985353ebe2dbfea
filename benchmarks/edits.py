"""Edit images as websites do; audit.py plants copies made with these edits."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Edit = Callable[[Image.Image, random.Random], Image.Image]
BICUBIC = Image.Resampling.BICUBIC


def compressed(image: Image.Image, quality: int = 85) -> Image.Image:
    """Return the image after compression as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def scaled(image: Image.Image, across: float, down: float) -> Image.Image:
    """Return the image resized by a factor per axis."""
    size = (max(1, round(image.width * across)), max(1, round(image.height * down)))
    return image.resize(size, BICUBIC)


def cropped(image: Image.Image, percent: int, rng: random.Random) -> Image.Image:
    """Return the image without this percentage of its width and height, at a random position."""
    lost = [round(side * percent / 100) for side in image.size]
    left, top = (rng.randint(0, pixels) for pixels in lost)
    right, bottom = (
        side - pixels + start
        for side, pixels, start in zip(image.size, lost, (left, top), strict=True)
    )
    return image.crop((left, top, right, bottom))


def hue_turned(image: Image.Image, degrees: int) -> Image.Image:
    """Return the image with all hues rotated."""
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point([(each + degrees * 256 // 360) % 256 for each in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def watermarked(image: Image.Image, rng: random.Random) -> Image.Image:
    """Write white text at 43 % opacity in rows over the whole image, horizontally or slanted."""
    width, height = image.size
    layer = Image.new("L", image.size)
    pen = ImageDraw.Draw(layer)
    text = rng.choice(["AutoTrader", "CarDekho.com", "(c) cars24", "best-cars.in"])
    start = rng.randint(-width // 10, width // 10)
    for row, y in enumerate(range(height // 10, height, height // 3)):
        for x in range(start + row % 2 * width // 6, width, round(width * 0.55)):
            pen.text((x, y), text, 110, ImageFont.load_default(max(8, height // 8)))
    layer = layer.rotate(rng.choice([0, 20, 30]))
    return Image.composite(Image.new("RGB", image.size, "white"), image, layer)


def bannered(image: Image.Image, rng: random.Random) -> Image.Image:
    """Draw a dealer's banner over 12 to 18 % of the height, at the bottom or, more rarely, top."""
    image = image.copy()
    width, height = image.size
    high = round(height * rng.uniform(0.12, 0.18))
    paint, ink = rng.choice(
        [((200, 20, 20), "white"), ((10, 40, 120), "white"), ((20, 20, 20), "white"),
         ((250, 210, 0), "black")]
    )  # fmt: skip
    top = height - high if rng.random() < 0.7 else 0
    text = rng.choice(["CITY MOTORS  022-555 0199", "Sharma Auto Deals", "Best price! Call 98200"])
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, top, width, top + high), fill=paint)
    font = ImageFont.load_default(max(7, high * 0.6))
    pen.text((width * 0.05, top + high * 0.15), text, ink, font)
    return image


def bordered(image: Image.Image, rng: random.Random) -> Image.Image:
    """Add a white border of 4 to 12 % of the longer side."""
    return ImageOps.expand(image, round(max(image.size) * rng.uniform(0.04, 0.12)), "white")


def letterboxed(image: Image.Image, rng: random.Random) -> Image.Image:
    """Add black bars that change the aspect ratio to 1:1, 4:3 or 16:9."""
    width, height = image.size
    ratio = rng.choice([1.0, 4 / 3, 16 / 9])
    if abs(width / height - ratio) < 0.1:
        ratio = 1.0 if width / height > 1.15 else 16 / 9
    size = (
        (width, round(width / ratio)) if width / height > ratio else (round(height * ratio), height)
    )
    canvas = Image.new("RGB", size)
    canvas.paste(image, ((size[0] - width) // 2, (size[1] - height) // 2))
    return canvas


def turned(image: Image.Image, rng: random.Random) -> Image.Image:
    """Rotate by 3 degrees either way, with white or black corners."""
    angle, corners = 3 * rng.choice([-1, 1]), rng.choice(["white", "black"])
    return image.rotate(angle, BICUBIC, fillcolor=corners)


def straightened(image: Image.Image, rng: random.Random) -> Image.Image:
    """Rotate by 3 degrees either way, and crop the corners away."""
    width, height = image.size
    sine, cosine = math.sin(math.radians(3)), math.cos(math.radians(3))
    part = min(width / (width * cosine + height * sine), height / (height * cosine + width * sine))
    across, down = width * part / 2, height * part / 2
    box = (width / 2 - across, height / 2 - down, width / 2 + across, height / 2 + down)
    return image.rotate(3 * rng.choice([-1, 1]), BICUBIC).crop([round(each) for each in box])


def framed(image: Image.Image, rng: random.Random) -> Image.Image:
    """Paste the image into a screenshot of a web page, of which it covers 33 to 64 %."""
    width, height = image.size
    size = (round(width * rng.uniform(1.15, 1.6)), round(height * rng.uniform(1.35, 1.9)))
    back, ink, bar = rng.choice(
        [("white", "black", (222, 225, 230)), ((32, 33, 36), "white", (60, 64, 67)),
         ((240, 242, 245), "black", (222, 225, 230))]
    )  # fmt: skip
    page = Image.new("RGB", size, back)
    pen = ImageDraw.Draw(page)
    high = round(size[1] * 0.09)
    pen.rectangle((0, 0, size[0], high), fill=bar)
    font = ImageFont.load_default(max(7, high * 0.5))
    pen.text((size[0] * 0.05, high * 0.2), "www.cars.example/used/12345", ink, font)
    left = rng.randint(0, size[0] - width)
    top = rng.randint(high, max(high, size[1] - height - high))
    page.paste(image, (left, top))
    if top + height + high < size[1]:
        below = (size[0] * 0.05, top + height + high * 0.2)
        pen.text(below, "Well kept, one owner, 45,000 km", ink, font)
    return page


EDITS: dict[str, Edit] = {
    "JPEG quality 45": lambda image, rng: compressed(image, 45),
    "JPEG quality 30": lambda image, rng: compressed(image, 30),
    "resized x 0.5": lambda image, rng: scaled(image, 0.5, 0.5),
    "resized x 1.5": lambda image, rng: scaled(image, 1.5, 1.5),
    "squashed x 0.8": lambda image, rng: scaled(image, 0.8, 1),
    "blurred by 0.6 %": lambda image, rng: image.filter(
        ImageFilter.GaussianBlur(max(image.size) * 0.006)
    ),
    "grey": lambda image, rng: image.convert("L").convert("RGB"),
    "brightness x 0.7": lambda image, rng: ImageEnhance.Brightness(image).enhance(0.7),
    "brightness x 1.3": lambda image, rng: ImageEnhance.Brightness(image).enhance(1.3),
    "contrast x 0.7": lambda image, rng: ImageEnhance.Contrast(image).enhance(0.7),
    "contrast x 1.3": lambda image, rng: ImageEnhance.Contrast(image).enhance(1.3),
    "hue + 20 degrees": lambda image, rng: hue_turned(image, 20),
    "mirrored": lambda image, rng: ImageOps.mirror(image),
    "cropped by 2 %": lambda image, rng: cropped(image, 2, rng),
    "cropped by 5 %": lambda image, rng: cropped(image, 5, rng),
    "cropped by 10 %": lambda image, rng: cropped(image, 10, rng),
    "cropped by 20 %": lambda image, rng: cropped(image, 20, rng),
    "mirrored, cropped by 5 %": lambda image, rng: cropped(ImageOps.mirror(image), 5, rng),
    "watermark": watermarked,
    "dealer's banner": bannered,
    "white border": bordered,
    "letterbox": letterboxed,
    "turned by 3 degrees": turned,
    "... and cropped": straightened,
    "screenshot in a frame": framed,
}


def edited(name: str, image: Image.Image, number: int, seed: int) -> Image.Image:
    """Return an edited copy of image ``number``, finally saved as JPEG, as websites do.

    The result is a function of the name, the number and the seed.
    """
    copy = EDITS[name](image, random.Random(f"{seed} {name} {number}"))
    return copy if name.startswith("JPEG") else compressed(copy)
