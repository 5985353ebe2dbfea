"""Backgrounds: sky, walls, houses, trees, hills and the ground.

Backgrounds deliberately differ in their large light and dark areas, so that a perceptual hash does
not take images of different cars for copies of each other.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from carbench.data.sample.camera import Camera
from carbench.data.sample.colours import GROUNDS, LEAVES, SKIES, WALLS, Colour, jitter, shade
from carbench.data.sample.rng import PortableRng


def corner_gradient(size: tuple[int, int], corners: list[Colour]) -> Image.Image:
    """Return a gradient between the colours of the corners, row by row."""
    small = np.array(corners, dtype=np.uint8).reshape(2, 2, 3)
    return Image.fromarray(small).resize(size, Image.Resampling.BILINEAR)


def draw_background(size: tuple[int, int], camera: Camera, rng: PortableRng) -> Image.Image:
    """Return a background of a size in pixels, with the horizon of the camera."""
    width, height = size
    image = _sky(size, rng)
    draw = ImageDraw.Draw(image, "RGBA")
    # Seen from above, the horizon may be outside the image; some backdrop stays visible.
    ends = (max(camera.horizon(0), height // 10), max(camera.horizon(width), height // 10))
    middle = (ends[0] + ends[1]) // 2
    backdrop = rng.choice(
        (_houses, _houses, _trees, _trees, _hills, _wall, _wall, _shutters, _forest, _open_horizon)
    )
    backdrop(draw, size, middle, rng)
    foot = rng.integer(0, height // 16)
    _ground(image, (ends[0] + foot, ends[1] + foot), rng)
    draw = ImageDraw.Draw(image, "RGBA")
    if rng.chance(0.6):
        _markings(draw, camera, rng)
    if rng.chance(0.5):
        _trees(draw, size, middle + foot + height // 40, rng, rng.integer(1, 2))
    return image


def _sky(size: tuple[int, int], rng: PortableRng) -> Image.Image:
    high, low = rng.choice(SKIES)
    corners = [
        jitter(shade(colour, rng.integer(70, 115)), rng, 16) for colour in (high, high, low, low)
    ]
    if rng.chance(0.25):
        corners = rng.shuffled(corners)
    sky = corner_gradient(size, corners)
    draw = ImageDraw.Draw(sky, "RGBA")
    width, height = size
    for _ in range(rng.integer(0, 5)):
        x, y = rng.integer(0, width), rng.integer(0, height // 2)
        long, thick = rng.integer(width // 12, width // 4), rng.integer(height // 40, height // 12)
        cloud = (*jitter((235, 236, 240), rng, 18), rng.integer(60, 190))
        for k in range(3):
            left = x - long + k * long // 2
            lift = thick // 2 if k == 1 else 0
            draw.ellipse((left, y - thick - lift, left + long, y + thick), fill=cloud)
    return sky


def _ground(image: Image.Image, ends: tuple[int, int], rng: PortableRng) -> None:
    width, height = image.size
    base = jitter(rng.choice(GROUNDS), rng, 16)
    corners = [jitter(shade(base, rng.integer(62, 122)), rng, 8) for _ in range(4)]
    ground = corner_gradient(image.size, corners)
    # Patches, such as worn asphalt or wet spots.
    cells = (rng.integer(3, 8), rng.integer(4, 12))
    patches = rng.integers(0, 70, cells).astype(np.uint8)
    veil = Image.fromarray(patches).resize(image.size, Image.Resampling.BICUBIC)
    dark = rng.chance(0.6)
    ground.paste((20, 20, 24) if dark else (225, 222, 214), mask=veil)
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).polygon(
        [(0, ends[0]), (width, ends[1]), (width, height), (0, height)], fill=255
    )
    image.paste(ground, mask=mask)
    draw = ImageDraw.Draw(image, "RGBA")
    if rng.chance(0.45):  # a kerb or a pavement
        near = rng.integer(1, max(2, (height - ends[0]) // 5))
        draw.polygon(
            [(0, ends[0]), (width, ends[1]), (width, ends[1] + near), (0, ends[0] + near)],
            fill=jitter((170, 168, 162), rng, 40),
        )
    for _ in range(rng.integer(0, 2)):  # shadows of objects behind the camera
        x, wide = rng.integer(-width // 4, width), rng.integer(width // 8, width // 2)
        lean = rng.integer(-width // 3, width // 3)
        top = ends[0] + rng.integer(0, max(1, height // 5))
        draw.polygon(
            [(x, top), (x + wide, top), (x + wide + lean, height), (x + lean, height)],
            fill=(10, 12, 24, rng.integer(40, 120)),
        )


def _markings(draw: ImageDraw.ImageDraw, camera: Camera, rng: PortableRng) -> None:
    """Draw lines on the ground, in the coordinates of the car: parking bays or road edges."""
    paint = (*rng.choice(((235, 235, 230), (230, 190, 60))), rng.integer(120, 230))
    if rng.chance(0.5):
        start, gap = rng.uniform(-4.0, -2.4), rng.uniform(2.2, 5.6)
        bars = [((start + gap * k, -1.6), (start + gap * k + 0.14, 2.6)) for k in range(4)]
    else:
        z = rng.choice((-1.5, 1.4, 2.2, 3.0))
        piece = rng.choice((0.9, 2.0, 12.0))
        bars = [((-6 + 2 * piece * k, z), (-6 + 2 * piece * k + piece, z + 0.15)) for k in range(6)]
    for (x0, z0), (x1, z1) in bars:
        places = [(x0, z0), (x1, z0), (x1, z1), (x0, z1)]
        if min(camera.plane(x, 0.0, z)[2] for x, z in places) > 1.0:
            draw.polygon([camera.pixel(x, 0.0, z) for x, z in places], fill=paint)


def _open_horizon(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], foot: int, rng: PortableRng
) -> None:
    """Draw nothing: an open horizon."""


def _houses(draw: ImageDraw.ImageDraw, size: tuple[int, int], foot: int, rng: PortableRng) -> None:
    width, height = size
    x = -rng.integer(0, width // 4)
    foot += height // 12
    while x < width:
        wide, tall = rng.integer(width // 8, width // 2), rng.integer(height // 7, height)
        if rng.chance(0.2):
            x += wide // 2
            continue
        wall = jitter(shade(rng.choice(WALLS), rng.integer(60, 120)), rng, 14)
        top = foot - tall
        draw.rectangle((x, top, x + wide, foot), fill=wall)
        if rng.chance(0.4):
            roof = height // rng.integer(8, 14)
            draw.polygon(
                [(x - 4, top), (x + wide + 4, top), (x + wide // 2, top - roof)],
                fill=jitter((120, 60, 50), rng, 30),
            )
        pane = jitter(rng.choice(((60, 76, 96), (240, 214, 130), (30, 34, 44))), rng, 14)
        step_x, step_y = width // rng.integer(12, 22), height // rng.integer(9, 16)
        for px in range(x + step_x // 2, x + wide - step_x, step_x + step_x // 2):
            for py in range(top + step_y // 2, foot - step_y, step_y + step_y // 2):
                draw.rectangle((px, py, px + step_x // 2 + 2, py + step_y // 2 + 2), fill=pane)
        x += wide + rng.integer(-4, width // 12)


def _trees(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], foot: int, rng: PortableRng, count: int = 0
) -> None:
    width, height = size
    for _ in range(count or rng.integer(2, 8)):
        x, tall = rng.integer(0, width), rng.integer(height // 6, 2 * height // 3)
        leaf = jitter(shade(rng.choice(LEAVES), rng.integer(60, 115)), rng, 14)
        trunk = max(2, tall // 14)
        draw.rectangle(
            (x - trunk // 2, foot - tall // 2, x + trunk // 2, foot + 4), fill=(70, 54, 40)
        )
        if rng.chance(0.3):
            wide = tall // 4
            draw.polygon([(x - wide, foot - tall // 6), (x + wide, foot - tall // 6),
                          (x, foot - tall)], fill=leaf)  # fmt: skip
            continue
        for _ in range(rng.integer(3, 5)):
            r = rng.integer(tall // 7, tall // 4)
            cx, cy = x + rng.integer(-tall // 6, tall // 6), foot - rng.integer(tall // 2, tall)
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=jitter(leaf, rng, 10))


def _hills(draw: ImageDraw.ImageDraw, size: tuple[int, int], foot: int, rng: PortableRng) -> None:
    width, height = size
    for layer in range(rng.integer(1, 3)):
        colour = jitter(shade(rng.choice((*LEAVES, (120, 130, 160))), 110 - 18 * layer), rng, 12)
        tall = height // (3 + 2 * layer)
        line = [(k * width // 6, foot - rng.integer(0, tall)) for k in range(7)]
        draw.polygon([(0, foot + height // 10), *line, (width, foot + height // 10)], fill=colour)


def _wall(draw: ImageDraw.ImageDraw, size: tuple[int, int], foot: int, rng: PortableRng) -> None:
    width, height = size
    foot += height // 12
    top = foot - rng.integer(height // 4, height)
    colour = jitter(shade(rng.choice(WALLS), rng.integer(55, 120)), rng, 14)
    draw.rectangle((0, top, width, foot), fill=colour)
    course = max(6, height // rng.integer(14, 40))
    for row, y in enumerate(range(foot, max(top, 0), -course)):
        draw.line((0, y, width, y), fill=(*shade(colour, 75), 130), width=2)
        for x in range((row % 2) * course, width, 2 * course):
            draw.line((x, y - course, x, y), fill=(*shade(colour, 75), 90), width=1)
    for _ in range(rng.integer(0, 4)):  # posters, doors, graffiti
        x, y = rng.integer(0, width), rng.integer(max(top, 0), foot)
        w, h = rng.integer(width // 14, width // 4), rng.integer(height // 10, height // 3)
        draw.rectangle((x, y - h, x + w, y), fill=jitter(rng.choice(WALLS), rng, 60))


def _shutters(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], foot: int, rng: PortableRng
) -> None:
    width, height = size
    wide = width // rng.integer(3, 8)
    for x in range(-rng.integer(0, wide), width, wide):
        colour = jitter(shade(rng.choice(WALLS), rng.integer(45, 130)), rng, 30)
        draw.rectangle((x, 0, x + wide - 3, foot + height // 12), fill=colour)
        for y in range(0, foot, max(5, height // 24)):
            draw.line((x, y, x + wide - 3, y), fill=(*shade(colour, 82), 160), width=1)


def _forest(draw: ImageDraw.ImageDraw, size: tuple[int, int], foot: int, rng: PortableRng) -> None:
    width, height = size
    foot += height // 10
    draw.rectangle(
        (0, 0, width, foot), fill=(*jitter((60, 84, 56), rng, 26), rng.integer(120, 230))
    )
    for _ in range(rng.integer(5, 14)):
        x, wide = rng.integer(0, width), rng.integer(width // 60 + 1, width // 16)
        bark = jitter(shade((92, 76, 60), rng.integer(50, 140)), rng, 14)
        draw.rectangle((x, 0, x + wide, foot), fill=bark)
