"""Shapes and paths from which the video demo is drawn."""

import math

from PIL import ImageDraw

SCALE = 2  # pictures are drawn larger and averaged, for smooth edges
Point = tuple[float, float]
Color = tuple[int, int, int]


def eased(value: float, start: float, end: float) -> float:
    """Return the fraction of the interval from ``start`` to ``end`` that is over, slow at both ends."""
    passed = min(1.0, max(0.0, (value - start) / (end - start)))
    return passed * passed * (3 - 2 * passed)


def between(start: Point, end: Point, fraction: float, bend: float = 0.0) -> Point:
    """Return a point on the way from ``start`` to ``end``, which is bent to the side."""
    across, down = end[0] - start[0], end[1] - start[1]
    side = bend * math.sin(math.pi * fraction)
    return start[0] + fraction * across - side * down, start[1] + fraction * down + side * across


class Pen:
    """Draws shapes, with coordinates in pixels of the finished picture, relative to the camera.

    Args:
        canvas: picture that is ``SCALE`` times as large as the finished picture.
        shift: offset of the camera in pixels.
    """

    def __init__(self, canvas: ImageDraw.ImageDraw, shift: Point) -> None:
        self._canvas, self._shift = canvas, shift

    def _pixel(self, point: Point) -> Point:
        return SCALE * (point[0] + self._shift[0]), SCALE * (point[1] + self._shift[1])

    def box(self, center: Point, size: Point, color: Color, radius: float = 4) -> None:
        """Draw a rounded rectangle."""
        left, top = self._pixel((center[0] - size[0] / 2, center[1] - size[1] / 2))
        right, bottom = self._pixel((center[0] + size[0] / 2, center[1] + size[1] / 2))
        radius = min(SCALE * radius, (right - left) / 2, (bottom - top) / 2)
        self._canvas.rounded_rectangle((left, top, right, bottom), radius, color)

    def circle(self, center: Point, radius: float, color: Color) -> None:
        """Draw a filled circle."""
        x, y = self._pixel(center)
        self._canvas.ellipse((x - SCALE * radius, y - SCALE * radius, x + SCALE * radius, y + SCALE * radius), color)

    def line(self, start: Point, end: Point, thickness: float, color: Color) -> None:
        """Draw a line with round ends."""
        self._canvas.line((*self._pixel(start), *self._pixel(end)), color, round(SCALE * thickness))
        for point in (start, end):
            self.circle(point, thickness / 2, color)
