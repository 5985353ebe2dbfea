"""A pinhole camera: projects points of a car to pixels.

The optical axis is horizontal, so that the horizon is at the height of the camera. The yaw is given
as the tangent of half the angle: sine and cosine are then plain divisions, which give the same
result on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

Pixel = tuple[int, int]


@dataclass(frozen=True)
class Camera:
    """A camera and its position in the image; lengths in metres, positions in pixels."""

    half_yaw: float  # tan(yaw / 2); positive shows the front, negative the rear
    distance: float  # from the camera to the middle of the car
    eye: float  # height of the camera
    faces_left: bool
    tilt: float = 0.0  # slope of the horizon
    scale: float = 1.0  # pixels per unit on the image plane
    left: float = 0.0  # pixel column of the optical axis
    top: float = 0.0  # pixel row of the horizon on the axis

    def plane(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """Project a point (x forward, y up, z away from the camera); also return its depth."""
        t = self.half_yaw
        cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
        across, depth = x * cos + z * sin, self.distance + z * cos - x * sin
        u = across / depth
        return (-u if self.faces_left else u), (self.eye - y) / depth, depth

    def pixel(self, x: float, y: float, z: float) -> Pixel:
        """Return the pixel of a point, rounded so that float rounding cannot change an image."""
        u, v, _ = self.plane(x, y, z)
        return (
            round(self.left + self.scale * (u - self.tilt * v)),
            round(self.top + self.scale * (v + self.tilt * u)),
        )

    def horizon(self, column: float) -> int:
        """Return the pixel row of the horizon in a column."""
        return round(self.top + self.tilt * (column - self.left))

    def shrunk(self, times: int) -> Camera:
        """Return this camera for an image that is smaller by a factor of `times`."""
        return replace(self, scale=self.scale / times, left=self.left / times, top=self.top / times)

    def framed(
        self,
        corners: Iterable[tuple[float, float, float]],
        size: tuple[int, int],
        fill: float,
        shift: tuple[float, float],
    ) -> Camera:
        """Return this camera, zoomed and moved so that `corners` fill a fraction of the image.

        `shift` is the offset from the centre of the image, as a fraction of `size`.
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
