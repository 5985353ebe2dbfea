"""What makes a saloon a saloon: the measures of each body style, in metres.

An image's car takes each measure from its style's range. The ranges overlap, and some cars lean
towards a neighbouring style (a tall hatchback, a coupe-like saloon), so that there are hard cases
as there are on the road.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from carbench.data.sample.rng import Dice

CLASSES: tuple[str, ...] = ("Saloon", "Hatchback", "Estate", "SUV", "Pick-up", "Coupe")

Range = tuple[float, float]


@dataclass(frozen=True)
class Measures:
    """Side-view measures of one car, in metres; heights are above the road."""

    length: float
    height: float
    width: float
    clearance: float
    wheel_radius: float
    front_overhang: float
    rear_overhang: float
    bonnet_length: float
    bonnet_height: float
    nose_height: float
    screen_run: float  # how far back the windscreen leans
    deck_length: float  # boot lid, or the pick-up's bed
    deck_height: float
    rear_run: float  # how far forward the rear window leans
    roof_drop: float  # how much lower the roof ends than it peaks
    belt_height: float  # lower edge of the side windows


@dataclass(frozen=True)
class CarPlan:
    """One car: its style, its measures and the fittings that go with the style."""

    style: str
    measures: Measures
    side_windows: int
    has_bed: bool
    has_rails: bool
    has_cladding: bool
    has_spare_wheel: bool
    has_spoiler: bool


# Column order is that of Measures.
_RANGES: dict[str, tuple[Range, ...]] = {
    "Saloon": (
        (4.40, 4.90), (1.36, 1.46), (1.70, 1.85), (0.15, 0.20), (0.30, 0.34),
        (0.78, 0.92), (0.95, 1.12), (1.15, 1.40), (0.88, 0.97), (0.66, 0.76),
        (0.55, 0.75), (0.72, 1.00), (0.92, 1.02), (0.45, 0.70), (0.03, 0.09), (0.86, 0.94),
    ),
    "Hatchback": (
        (3.50, 4.05), (1.40, 1.52), (1.60, 1.76), (0.15, 0.21), (0.28, 0.33),
        (0.55, 0.72), (0.42, 0.58), (0.62, 0.88), (0.92, 1.02), (0.68, 0.80),
        (0.65, 0.95), (0.00, 0.10), (0.92, 1.02), (0.42, 0.72), (0.09, 0.19), (0.88, 0.97),
    ),
    "Estate": (
        (4.65, 5.10), (1.38, 1.50), (1.70, 1.85), (0.15, 0.20), (0.30, 0.34),
        (0.78, 0.92), (1.05, 1.25), (1.10, 1.35), (0.88, 0.97), (0.66, 0.76),
        (0.55, 0.80), (0.00, 0.06), (0.90, 1.00), (0.10, 0.35), (0.00, 0.05), (0.86, 0.94),
    ),
    "SUV": (
        (3.95, 4.50), (1.76, 2.00), (1.80, 1.95), (0.27, 0.36), (0.37, 0.43),
        (0.66, 0.84), (0.62, 0.82), (0.95, 1.20), (1.10, 1.24), (0.90, 1.06),
        (0.28, 0.52), (0.00, 0.06), (1.08, 1.20), (0.04, 0.22), (0.00, 0.05), (1.10, 1.20),
    ),
    "Pick-up": (
        (4.90, 5.50), (1.64, 1.84), (1.78, 1.95), (0.26, 0.36), (0.37, 0.43),
        (0.76, 0.92), (1.10, 1.32), (1.05, 1.30), (1.06, 1.18), (0.86, 1.00),
        (0.38, 0.62), (1.60, 2.15), (0.98, 1.10), (0.03, 0.15), (0.00, 0.05), (1.04, 1.14),
    ),
    "Coupe": (
        (4.20, 4.70), (1.14, 1.27), (1.76, 1.92), (0.10, 0.15), (0.32, 0.37),
        (0.72, 0.90), (0.72, 0.90), (1.40, 1.75), (0.78, 0.88), (0.54, 0.66),
        (0.60, 0.85), (0.08, 0.32), (0.82, 0.92), (0.95, 1.35), (0.08, 0.16), (0.78, 0.86),
    ),
}  # fmt: skip

# Whom a car of this style may be mistaken for.
_NEIGHBOURS: dict[str, tuple[str, ...]] = {
    "Saloon": ("Coupe", "Hatchback", "Estate"),
    "Hatchback": ("Estate", "SUV", "Saloon"),
    "Estate": ("Hatchback", "SUV", "Saloon"),
    "SUV": ("Hatchback", "Estate", "Estate"),
    "Pick-up": ("SUV", "Saloon", "SUV"),
    "Coupe": ("Saloon", "Hatchback", "Saloon"),
}

_LEANING_SHARE = 0.30  # of the cars lean towards a neighbour,
_LEANING_MOST = 0.36  # by at most this much


def _throw(style: str, rng: Dice) -> list[float]:
    return [rng.between(low, high) for low, high in _RANGES[style]]


def draw_plan(style: str, rng: Dice) -> CarPlan:
    """One car of this style (a member of CLASSES)."""
    values = _throw(style, rng)
    if rng.chance(_LEANING_SHARE):
        lean = rng.between(0.1, _LEANING_MOST)
        other = _throw(rng.pick(_NEIGHBOURS[style]), rng)
        values = [own + lean * (theirs - own) for own, theirs in zip(values, other, strict=True)]
    names = [field.name for field in fields(Measures)]
    measures = Measures(**dict(zip(names, values, strict=True)))
    windows = {
        "Saloon": rng.pick((2, 2, 3)),
        "Hatchback": rng.pick((1, 2, 2)),
        "Estate": rng.pick((3, 3, 2)),
        "SUV": rng.pick((2, 3, 3)),
        "Pick-up": rng.pick((1, 2, 2)),
        "Coupe": rng.pick((1, 1, 2)),
    }[style]
    return CarPlan(
        style=style,
        measures=measures,
        side_windows=windows,
        has_bed=style == "Pick-up",
        has_rails=rng.chance({"Estate": 0.45, "SUV": 0.5, "Hatchback": 0.1}.get(style, 0.0)),
        has_cladding=rng.chance({"SUV": 0.7, "Pick-up": 0.4, "Hatchback": 0.08}.get(style, 0.03)),
        has_spare_wheel=rng.chance({"SUV": 0.15}.get(style, 0.0)),
        has_spoiler=rng.chance({"Coupe": 0.3, "Hatchback": 0.25, "SUV": 0.2}.get(style, 0.08)),
    )
