"""The dimensions and fittings of each body style.

Each dimension of a car is drawn from the range of its style. The ranges overlap, and some cars are
blended with a similar style (a tall hatchback, a coupe-like saloon), so that some are hard to
classify, as in reality.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from carbench.data.sample.rng import PortableRng

CLASSES: tuple[str, ...] = ("Saloon", "Hatchback", "Estate", "SUV", "Pick-up", "Coupe")

Range = tuple[float, float]


@dataclass(frozen=True)
class Dimensions:
    """Dimensions of a car in metres; heights are above the road."""

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
    screen_run: float  # horizontal extent of the windscreen
    deck_length: float  # boot lid, or the pick-up's bed
    deck_height: float
    rear_run: float  # horizontal extent of the rear window
    roof_drop: float  # from the highest point of the roof to its rear end
    belt_height: float  # lower edge of the side windows


@dataclass(frozen=True)
class CarDesign:
    """The style, dimensions and fittings of a car."""

    style: str
    dimensions: Dimensions
    side_windows: int
    has_bed: bool
    has_rails: bool
    has_cladding: bool
    has_spare_wheel: bool
    has_spoiler: bool


# In the order of the fields of Dimensions.
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

# Styles that a car may be blended with.
_SIMILAR_STYLES: dict[str, tuple[str, ...]] = {
    "Saloon": ("Coupe", "Hatchback", "Estate"),
    "Hatchback": ("Estate", "SUV", "Saloon"),
    "Estate": ("Hatchback", "SUV", "Saloon"),
    "SUV": ("Hatchback", "Estate", "Estate"),
    "Pick-up": ("SUV", "Saloon", "SUV"),
    "Coupe": ("Saloon", "Hatchback", "Saloon"),
}

_BLEND_PROBABILITY = 0.30  # probability that a car is blended with a similar style
_MAX_BLEND = 0.36  # maximum weight of the similar style


def _random_dimensions(style: str, rng: PortableRng) -> list[float]:
    return [rng.uniform(low, high) for low, high in _RANGES[style]]


def random_design(style: str, rng: PortableRng) -> CarDesign:
    """Return a random car of a style (one of CLASSES)."""
    values = _random_dimensions(style, rng)
    if rng.chance(_BLEND_PROBABILITY):
        lean = rng.uniform(0.1, _MAX_BLEND)
        other = _random_dimensions(rng.choice(_SIMILAR_STYLES[style]), rng)
        values = [own + lean * (theirs - own) for own, theirs in zip(values, other, strict=True)]
    names = [field.name for field in fields(Dimensions)]
    dimensions = Dimensions(**dict(zip(names, values, strict=True)))
    windows = {
        "Saloon": rng.choice((2, 2, 3)),
        "Hatchback": rng.choice((1, 2, 2)),
        "Estate": rng.choice((3, 3, 2)),
        "SUV": rng.choice((2, 3, 3)),
        "Pick-up": rng.choice((1, 2, 2)),
        "Coupe": rng.choice((1, 1, 2)),
    }[style]
    return CarDesign(
        style=style,
        dimensions=dimensions,
        side_windows=windows,
        has_bed=style == "Pick-up",
        has_rails=rng.chance({"Estate": 0.45, "SUV": 0.5, "Hatchback": 0.1}.get(style, 0.0)),
        has_cladding=rng.chance({"SUV": 0.7, "Pick-up": 0.4, "Hatchback": 0.08}.get(style, 0.03)),
        has_spare_wheel=rng.chance({"SUV": 0.15}.get(style, 0.0)),
        has_spoiler=rng.chance({"Coupe": 0.3, "Hatchback": 0.25, "SUV": 0.2}.get(style, 0.08)),
    )
