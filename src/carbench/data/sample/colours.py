"""Colours of paints, skies, grounds and walls, and the light at different times of day."""

from __future__ import annotations

from dataclasses import dataclass

from carbench.data.sample.rng import PortableRng

Colour = tuple[int, int, int]

PAINTS: tuple[Colour, ...] = (
    (236, 237, 238), (222, 224, 226), (176, 180, 184), (120, 125, 130), (82, 86, 92),
    (52, 54, 60), (170, 24, 32), (120, 16, 30), (34, 76, 168), (70, 130, 190),
    (30, 112, 80), (112, 132, 84), (224, 182, 40), (226, 110, 34), (196, 180, 148),
    (124, 88, 62), (38, 130, 136), (150, 90, 140), (240, 200, 190), (120, 50, 110),
)  # fmt: skip
SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((96, 156, 224), (206, 226, 244)), ((150, 170, 190), (214, 218, 222)),
    ((60, 90, 160), (244, 186, 130)), ((170, 120, 150), (250, 210, 160)),
    ((40, 50, 90), (130, 110, 140)), ((190, 200, 205), (235, 236, 236)),
    ((20, 26, 52), (70, 80, 120)), ((120, 190, 230), (240, 244, 230)),
)  # fmt: skip
GROUNDS: tuple[Colour, ...] = (
    (92, 94, 98), (70, 72, 78), (122, 120, 116), (150, 144, 134), (180, 164, 130),
    (104, 120, 74), (84, 130, 64), (206, 210, 216), (136, 98, 72), (110, 108, 120),
)  # fmt: skip
WALLS: tuple[Colour, ...] = (
    (178, 96, 76), (204, 190, 166), (150, 152, 156), (226, 220, 208), (110, 84, 74),
    (86, 110, 130), (196, 150, 100), (236, 226, 190), (70, 76, 84), (160, 180, 170),
)  # fmt: skip
LEAVES: tuple[Colour, ...] = (
    (52, 92, 46), (78, 116, 50), (34, 70, 50), (150, 120, 40), (110, 130, 80), (170, 90, 50),
)  # fmt: skip
GLASS: tuple[Colour, ...] = ((36, 44, 52), (26, 30, 36), (44, 58, 68), (52, 66, 76))


def shade(colour: Colour, percent: int) -> Colour:
    """Return a darker (below 100) or lighter (above 100) colour."""
    if percent <= 100:
        return (colour[0] * percent // 100, colour[1] * percent // 100, colour[2] * percent // 100)
    extra = percent - 100
    r, g, b = (min(255, c + (255 - c) * extra // 100) for c in colour)
    return (r, g, b)


def jitter(colour: Colour, rng: PortableRng, amount: int) -> Colour:
    """Return a colour with each channel changed by up to `amount`."""
    r, g, b = (max(0, min(255, c + rng.integer(-amount, amount))) for c in colour)
    return (r, g, b)


@dataclass(frozen=True)
class Light:
    """The light: brightness of each channel (percent), and whether the lamps are on."""

    keep: tuple[int, int, int]
    lamps_on: bool
    shadow: int  # darkness of the shadow under the car, 0..255
    from_left: bool


def random_light(rng: PortableRng) -> Light:
    """Return the light of a random time: mostly day, else low sun, dusk or night."""
    hour = rng.integer(0, 99)
    if hour < 72:
        level = rng.integer(92, 110)
        keep, lamps, shadow = (level, level, level), False, rng.integer(90, 190)
    elif hour < 84:
        keep, lamps, shadow = (104, rng.integer(80, 90), rng.integer(58, 74)), False, 150
    elif hour < 94:
        keep, lamps, shadow = (rng.integer(55, 68), rng.integer(58, 68), 84), rng.chance(0.7), 110
    else:
        keep, lamps, shadow = (rng.integer(36, 48), rng.integer(38, 50), 62), True, 90
    return Light(keep, lamps, shadow, rng.chance(0.5))
