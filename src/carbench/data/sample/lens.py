"""Where a point of a car falls in the image: one pinhole camera.

The camera looks horizontally, so that the horizon is the line on which its own height lies. The
yaw is given as the tangent of half the angle: sine and cosine are then plain divisions, the same
on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

Pixel = tuple[int, int]


@dataclass(frozen=True)
class Lens:
    """A camera and where its image of the car is put; lengths in metres, places in pixels."""

    half_yaw: float  # tan(yaw / 2); positive shows the front, negative the rear
    distance: float  # from the camera to the middle of the car
    eye: float  # height of the camera
    faces_left: bool
    tilt: float = 0.0  # slope of the horizon
    scale: float = 1.0  # pixels per unit on the image plane
    left: float = 0.0  # pixel column of the image's axis
    top: float = 0.0  # pixel row of the horizon on the axis

    def plane(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """A car's point (x forward, y up, z away from us) on the image plane, and its depth."""
        t = self.half_yaw
        cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
        across, depth = x * cos + z * sin, self.distance + z * cos - x * sin
        u = across / depth
        return (-u if self.faces_left else u), (self.eye - y) / depth, depth

    def pixel(self, x: float, y: float, z: float) -> Pixel:
        """The pixel of a point, rounded so that no last digit of a float decides an image."""
        u, v, _ = self.plane(x, y, z)
        return (
            round(self.left + self.scale * (u - self.tilt * v)),
            round(self.top + self.scale * (v + self.tilt * u)),
        )

    def horizon(self, column: float) -> int:
        """Pixel row of the horizon in this column."""
        return round(self.top + self.tilt * (column - self.left))

    def shrunk(self, times: int) -> Lens:
        """This lens for an image so many times smaller."""
        return replace(self, scale=self.scale / times, left=self.left / times, top=self.top / times)

    def framed(
        self,
        corners: Iterable[tuple[float, float, float]],
        size: tuple[int, int],
        fill: float,
        shift: tuple[float, float],
    ) -> Lens:
        """This lens, zoomed and moved so that `corners` fill a share of an image of `size`.

        `shift` moves the middle off the image's middle, as a share of the image.
        """
        places = [self.plane(*corner)[:2] for corner in corners]
        us, vs = [u for u, _ in places], [v for _, v in places]
        wide, high = max(us) - min(us), max(vs) - min(vs)
        scale = min(fill * size[0] / wide, min(fill, 0.92) * size[1] / high)
        middle_u, middle_v = (max(us) + min(us)) / 2, (max(vs) + min(vs)) / 2
        return replace(
            self,
            scale=scale,
            left=size[0] * (0.5 + shift[0]) - scale * (middle_u - self.tilt * middle_v),
            top=size[1] * (0.5 + shift[1]) - scale * (middle_v + self.tilt * middle_u),
        )
