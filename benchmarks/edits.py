"""What happens to a picture on its way through the web: the edits that audit.py plants."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Edit = Callable[[Image.Image, random.Random], Image.Image]
BICUBIC = Image.Resampling.BICUBIC


def compressed(picture: Image.Image, quality: int = 85) -> Image.Image:
    """The picture after a pass through JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def scaled(picture: Image.Image, across: float, down: float) -> Image.Image:
    """The picture at another size."""
    size = (max(1, round(picture.width * across)), max(1, round(picture.height * down)))
    return picture.resize(size, BICUBIC)


def cropped(picture: Image.Image, percent: int, dice: random.Random) -> Image.Image:
    """The picture less so much of its width and of its height, from whichever side."""
    lost = [round(side * percent / 100) for side in picture.size]
    left, top = (dice.randint(0, pixels) for pixels in lost)
    right, bottom = (
        side - pixels + start
        for side, pixels, start in zip(picture.size, lost, (left, top), strict=True)
    )
    return picture.crop((left, top, right, bottom))


def hue_turned(picture: Image.Image, degrees: int) -> Image.Image:
    """The picture with all its hues turned."""
    hue, saturation, value = picture.convert("HSV").split()
    turned = hue.point([(each + degrees * 256 // 360) % 256 for each in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def watermarked(picture: Image.Image, dice: random.Random) -> Image.Image:
    """White writing at 43 % opacity, in rows over the whole picture, straight or aslant."""
    width, height = picture.size
    layer = Image.new("L", picture.size)
    pen = ImageDraw.Draw(layer)
    text = dice.choice(["AutoTrader", "CarDekho.com", "(c) cars24", "best-cars.in"])
    start = dice.randint(-width // 10, width // 10)
    for row, y in enumerate(range(height // 10, height, height // 3)):
        for x in range(start + row % 2 * width // 6, width, round(width * 0.55)):
            pen.text((x, y), text, 110, ImageFont.load_default(max(8, height // 8)))
    layer = layer.rotate(dice.choice([0, 20, 30]))
    return Image.composite(Image.new("RGB", picture.size, "white"), picture, layer)


def bannered(picture: Image.Image, dice: random.Random) -> Image.Image:
    """A dealer's banner over 12 to 18 % of the height, mostly at the bottom, else at the top."""
    picture = picture.copy()
    width, height = picture.size
    high = round(height * dice.uniform(0.12, 0.18))
    paint, ink = dice.choice(
        [((200, 20, 20), "white"), ((10, 40, 120), "white"), ((20, 20, 20), "white"),
         ((250, 210, 0), "black")]
    )  # fmt: skip
    top = height - high if dice.random() < 0.7 else 0
    text = dice.choice(["CITY MOTORS  022-555 0199", "Sharma Auto Deals", "Best price! Call 98200"])
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, top, width, top + high), fill=paint)
    font = ImageFont.load_default(max(7, high * 0.6))
    pen.text((width * 0.05, top + high * 0.15), text, ink, font)
    return picture


def bordered(picture: Image.Image, dice: random.Random) -> Image.Image:
    """A white border of 4 to 12 % of the longer side, all around."""
    return ImageOps.expand(picture, round(max(picture.size) * dice.uniform(0.04, 0.12)), "white")


def letterboxed(picture: Image.Image, dice: random.Random) -> Image.Image:
    """Black bars that make the picture 1:1, 4:3 or 16:9, whichever is another shape."""
    width, height = picture.size
    ratio = dice.choice([1.0, 4 / 3, 16 / 9])
    if abs(width / height - ratio) < 0.1:
        ratio = 1.0 if width / height > 1.15 else 16 / 9
    size = (
        (width, round(width / ratio)) if width / height > ratio else (round(height * ratio), height)
    )
    canvas = Image.new("RGB", size)
    canvas.paste(picture, ((size[0] - width) // 2, (size[1] - height) // 2))
    return canvas


def turned(picture: Image.Image, dice: random.Random) -> Image.Image:
    """Turned by 3 degrees either way, with white or black corners."""
    angle, corners = 3 * dice.choice([-1, 1]), dice.choice(["white", "black"])
    return picture.rotate(angle, BICUBIC, fillcolor=corners)


def straightened(picture: Image.Image, dice: random.Random) -> Image.Image:
    """Turned by 3 degrees either way, and cropped to what has no corners."""
    width, height = picture.size
    sine, cosine = math.sin(math.radians(3)), math.cos(math.radians(3))
    part = min(width / (width * cosine + height * sine), height / (height * cosine + width * sine))
    across, down = width * part / 2, height * part / 2
    box = (width / 2 - across, height / 2 - down, width / 2 + across, height / 2 + down)
    return picture.rotate(3 * dice.choice([-1, 1]), BICUBIC).crop([round(each) for each in box])


def framed(picture: Image.Image, dice: random.Random) -> Image.Image:
    """On a screenshot of a web page, of which it covers 33 to 64 %."""
    width, height = picture.size
    size = (round(width * dice.uniform(1.15, 1.6)), round(height * dice.uniform(1.35, 1.9)))
    back, ink, bar = dice.choice(
        [("white", "black", (222, 225, 230)), ((32, 33, 36), "white", (60, 64, 67)),
         ((240, 242, 245), "black", (222, 225, 230))]
    )  # fmt: skip
    page = Image.new("RGB", size, back)
    pen = ImageDraw.Draw(page)
    high = round(size[1] * 0.09)
    pen.rectangle((0, 0, size[0], high), fill=bar)
    font = ImageFont.load_default(max(7, high * 0.5))
    pen.text((size[0] * 0.05, high * 0.2), "www.cars.example/used/12345", ink, font)
    left = dice.randint(0, size[0] - width)
    top = dice.randint(high, max(high, size[1] - height - high))
    page.paste(picture, (left, top))
    if top + height + high < size[1]:
        below = (size[0] * 0.05, top + height + high * 0.2)
        pen.text(below, "Well kept, one owner, 45,000 km", ink, font)
    return page


EDITS: dict[str, Edit] = {
    "JPEG quality 45": lambda picture, dice: compressed(picture, 45),
    "JPEG quality 30": lambda picture, dice: compressed(picture, 30),
    "resized x 0.5": lambda picture, dice: scaled(picture, 0.5, 0.5),
    "resized x 1.5": lambda picture, dice: scaled(picture, 1.5, 1.5),
    "squashed x 0.8": lambda picture, dice: scaled(picture, 0.8, 1),
    "blurred by 0.6 %": lambda picture, dice: picture.filter(
        ImageFilter.GaussianBlur(max(picture.size) * 0.006)
    ),
    "grey": lambda picture, dice: picture.convert("L").convert("RGB"),
    "brightness x 0.7": lambda picture, dice: ImageEnhance.Brightness(picture).enhance(0.7),
    "brightness x 1.3": lambda picture, dice: ImageEnhance.Brightness(picture).enhance(1.3),
    "contrast x 0.7": lambda picture, dice: ImageEnhance.Contrast(picture).enhance(0.7),
    "contrast x 1.3": lambda picture, dice: ImageEnhance.Contrast(picture).enhance(1.3),
    "hue + 20 degrees": lambda picture, dice: hue_turned(picture, 20),
    "mirrored": lambda picture, dice: ImageOps.mirror(picture),
    "cropped by 2 %": lambda picture, dice: cropped(picture, 2, dice),
    "cropped by 5 %": lambda picture, dice: cropped(picture, 5, dice),
    "cropped by 10 %": lambda picture, dice: cropped(picture, 10, dice),
    "cropped by 20 %": lambda picture, dice: cropped(picture, 20, dice),
    "mirrored, cropped by 5 %": lambda picture, dice: cropped(ImageOps.mirror(picture), 5, dice),
    "watermark": watermarked,
    "dealer's banner": bannered,
    "white border": bordered,
    "letterbox": letterboxed,
    "turned by 3 degrees": turned,
    "... and cropped": straightened,
    "screenshot in a frame": framed,
}


def edited(name: str, picture: Image.Image, number: int, seed: int) -> Image.Image:
    """The copy of picture ``number``, saved as JPEG of quality 85 at last, as the web does."""
    copy = EDITS[name](picture, random.Random(f"{seed} {name} {number}"))
    return copy if name.startswith("JPEG") else compressed(copy)
