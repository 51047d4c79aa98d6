"""The faces of the traffic signs, drawn from circles, lines and polygons; no fonts are needed.

Coordinates run from -1 to 1 in both directions, y downwards, with the sign filling the square.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Point = tuple[float, float]
Colour = tuple[int, int, int]

RED: Colour = (196, 22, 38)
WHITE: Colour = (242, 242, 240)
BLACK: Colour = (24, 24, 26)
BLUE: Colour = (16, 84, 168)
YELLOW: Colour = (246, 190, 22)
AMBER: Colour = (240, 160, 20)
GREEN: Colour = (20, 140, 70)
GREY: Colour = (112, 112, 116)

#: edge of the canvas on which signs are drawn before they are made smaller
_CANVAS = 512

#: strokes of each character in a box of width 1 (x from 0) and height 1.6; arcs are (centre, radii, from, to)
_ARCS: dict[str, list[tuple[Point, Point, int, int]]] = {
    "0": [((0.5, 0.8), (0.4, 0.7), 0, 360)],
    "3": [((0.46, 0.45), (0.4, 0.35), -150, 90), ((0.46, 1.13), (0.42, 0.37), -90, 150)],
    "5": [((0.44, 1.06), (0.44, 0.44), -125, 145)],
    "8": [((0.5, 0.44), (0.36, 0.34), 0, 360), ((0.5, 1.13), (0.42, 0.37), 0, 360)],
    "O": [((0.5, 0.8), (0.42, 0.7), 0, 360)],
    "P": [((0.5, 0.5), (0.4, 0.4), -90, 90)],
    "S": [((0.5, 0.46), (0.38, 0.36), 90, 330), ((0.5, 1.14), (0.38, 0.36), -90, 150)],
}
_LINES: dict[str, list[list[Point]]] = {
    "5": [[(0.84, 0.1), (0.24, 0.1), (0.18, 0.72)]],
    "P": [[(0.12, 1.6), (0.12, 0.1), (0.5, 0.1)], [(0.12, 0.9), (0.5, 0.9)]],
    "T": [[(0.05, 0.1), (0.95, 0.1)], [(0.5, 0.1), (0.5, 1.6)]],
}


class _Pen:
    """Draws on a transparent canvas in coordinates from -1 to 1."""

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (_CANVAS, _CANVAS), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.image)

    def _at(self, point: Point) -> Point:
        return (point[0] + 1) * _CANVAS / 2, (point[1] + 1) * _CANVAS / 2

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self.draw.polygon([self._at(point) for point in points], fill=colour)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        x, y = centre
        corners = [self._at((x - radius, y - radius)), self._at((x + radius, y + radius))]
        self.draw.ellipse(corners, fill=colour)

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a line with round ends and corners."""
        self.draw.line([self._at(point) for point in points], fill=colour, width=round(width * _CANVAS / 2))
        for point in points:
            self.disc(point, width / 2, colour)

    def arc(
        self, centre: Point, radii: Point, degrees: tuple[float, float], width: float, colour: Colour
    ) -> None:
        steps = np.radians(np.linspace(degrees[0], degrees[1], 48))
        points = [
            (centre[0] + radii[0] * math.cos(step), centre[1] + radii[1] * math.sin(step)) for step in steps
        ]
        self.line(points, width, colour)

    def text(self, text: str, height: float, width: float, colour: Colour, thick: float) -> None:
        """Write characters around the middle; `width` is that of one, with the gap to the next."""
        for place, character in enumerate(text):
            left = (place - len(text) / 2 + 0.1) * width
            scale_x, scale_y = width * 0.8, height / 1.6

            def spot(point: Point, left: float = left, sx: float = scale_x, sy: float = scale_y) -> Point:
                return left + point[0] * sx, (point[1] - 0.8) * sy

            for centre, radii, first, last in _ARCS.get(character, []):
                self.arc(spot(centre), (radii[0] * scale_x, radii[1] * scale_y), (first, last), thick, colour)
            for points in _LINES.get(character, []):
                self.line([spot(point) for point in points], thick, colour)

    def arrow(self, points: Sequence[Point], width: float, colour: Colour, head: float) -> None:
        """Draw a line that ends in an arrow head."""
        (x0, y0), (x1, y1) = points[-2], points[-1]
        length = math.hypot(x1 - x0, y1 - y0)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        base = (x1 - dx * head, y1 - dy * head)
        self.line([*points[:-1], base], width, colour)
        side = head * 0.85
        self.polygon(
            [
                (x1, y1),
                (base[0] - dy * side, base[1] + dx * side),
                (base[0] + dy * side, base[1] - dx * side),
            ],
            colour,
        )


def _regular(corners: int, radius: float, turn: float = 0.0) -> list[Point]:
    angles = [math.radians(turn + 360 * place / corners) for place in range(corners)]
    return [(radius * math.sin(angle), -radius * math.cos(angle)) for angle in angles]


def _rounded_triangle(pen: _Pen, size: float, colour: Colour, *, down: bool = False) -> None:
    """Draw a triangle with round corners, `size` from 0 to 1."""
    flip = -1 if down else 1
    corners = [(0.0, -0.76), (0.86, 0.7), (-0.86, 0.7)]
    middle = 0.17
    points = [(x * size, flip * ((y - middle) * size + middle)) for x, y in corners]
    pen.polygon(points, colour)
    pen.line([*points, points[0]], 0.2 * size, colour)


def _ring(pen: _Pen) -> None:
    pen.disc((0, 0), 0.97, WHITE)
    pen.disc((0, 0), 0.94, RED)
    pen.disc((0, 0), 0.7, WHITE)


def _warning(pen: _Pen) -> None:
    _rounded_triangle(pen, 1.0, RED)
    _rounded_triangle(pen, 0.66, WHITE)


def _blue(pen: _Pen) -> None:
    pen.disc((0, 0), 0.97, WHITE)
    pen.disc((0, 0), 0.92, BLUE)


def _limit(number: str) -> Callable[[_Pen], None]:
    def draw(pen: _Pen) -> None:
        _ring(pen)
        pen.text(number, 0.78, 0.56, BLACK, 0.135)

    return draw


def _stop(pen: _Pen) -> None:
    pen.polygon(_regular(8, 1.05, 22.5), WHITE)
    pen.polygon(_regular(8, 0.97, 22.5), RED)
    pen.text("STOP", 0.62, 0.42, WHITE, 0.105)


def _yield(pen: _Pen) -> None:
    _rounded_triangle(pen, 1.0, RED, down=True)
    _rounded_triangle(pen, 0.6, WHITE, down=True)


def _no_entry(pen: _Pen) -> None:
    pen.disc((0, 0), 0.97, WHITE)
    pen.disc((0, 0), 0.93, RED)
    pen.polygon([(-0.68, -0.17), (0.68, -0.17), (0.68, 0.17), (-0.68, 0.17)], WHITE)


def _car(pen: _Pen, x: float, colour: Colour) -> None:
    pen.polygon([(x - 0.22, -0.02), (x + 0.22, -0.02), (x + 0.22, 0.2), (x - 0.22, 0.2)], colour)
    pen.polygon([(x - 0.14, -0.2), (x + 0.14, -0.2), (x + 0.2, 0), (x - 0.2, 0)], colour)
    for wheel in (-0.14, 0.14):
        pen.disc((x + wheel, 0.22), 0.075, colour)


def _no_overtaking(pen: _Pen) -> None:
    _ring(pen)
    _car(pen, -0.27, RED)
    _car(pen, 0.27, BLACK)


def _priority(pen: _Pen) -> None:
    pen.polygon(_regular(4, 1.0), BLACK)
    pen.polygon(_regular(4, 0.97), WHITE)
    pen.polygon(_regular(4, 0.66), YELLOW)


def _caution(pen: _Pen) -> None:
    _warning(pen)
    pen.polygon([(-0.1, -0.22), (0.1, -0.22), (0.055, 0.24), (-0.055, 0.24)], BLACK)
    pen.disc((0, 0.42), 0.09, BLACK)


def _bend(pen: _Pen) -> None:
    _warning(pen)
    pen.arrow([(0.2, 0.5), (0.2, 0.16), (0.08, 0.04), (-0.3, 0.04)], 0.14, BLACK, 0.2)


def _pedestrians(pen: _Pen) -> None:
    _warning(pen)
    pen.disc((0.02, -0.26), 0.095, BLACK)
    pen.line([(0.02, -0.1), (0, 0.18)], 0.15, BLACK)
    pen.line([(0, 0.2), (0.16, 0.36), (0.18, 0.52)], 0.085, BLACK)
    pen.line([(0, 0.2), (-0.08, 0.38), (-0.24, 0.5)], 0.085, BLACK)
    pen.line([(0.03, -0.08), (0.2, 0.1)], 0.07, BLACK)
    pen.line([(0.01, -0.08), (-0.16, 0.12)], 0.07, BLACK)


def _signals(pen: _Pen) -> None:
    _warning(pen)
    pen.polygon([(-0.15, -0.3), (0.15, -0.3), (0.15, 0.54), (-0.15, 0.54)], BLACK)
    for y, colour in ((-0.16, RED), (0.12, AMBER), (0.4, GREEN)):
        pen.disc((0, y), 0.115, colour)


def _turn_right(pen: _Pen) -> None:
    _blue(pen)
    pen.arrow([(-0.24, 0.6), (-0.24, -0.06), (0.68, -0.06)], 0.2, WHITE, 0.38)


def _turn_left(pen: _Pen) -> None:
    _blue(pen)
    pen.arrow([(0.24, 0.6), (0.24, -0.06), (-0.68, -0.06)], 0.2, WHITE, 0.38)


def _ahead(pen: _Pen) -> None:
    _blue(pen)
    pen.arrow([(0, 0.66), (0, -0.74)], 0.2, WHITE, 0.4)


def _ahead_or_right(pen: _Pen) -> None:
    _blue(pen)
    pen.arrow([(-0.26, 0.64), (-0.26, -0.68)], 0.18, WHITE, 0.34)
    pen.arrow([(-0.26, 0.18), (0.68, 0.18)], 0.18, WHITE, 0.32)


def _roundabout(pen: _Pen) -> None:
    _blue(pen)
    for turn in (0, 120, 240):
        pen.arc((0, 0), (0.5, 0.5), (turn - 60, turn + 22), 0.15, WHITE)
        angle = math.radians(turn + 20)
        x, y = 0.5 * math.cos(angle), 0.5 * math.sin(angle)
        dx, dy = -math.sin(angle), math.cos(angle)
        tip = (x + dx * 0.28, y + dy * 0.28)
        pen.polygon(
            [
                tip,
                (x + 0.24 * math.cos(angle), y + 0.24 * math.sin(angle)),
                (x - 0.24 * math.cos(angle), y - 0.24 * math.sin(angle)),
            ],
            WHITE,
        )


def _end_of_limits(pen: _Pen) -> None:
    pen.disc((0, 0), 0.97, GREY)
    pen.disc((0, 0), 0.92, WHITE)
    for shift in (-0.28, -0.14, 0.0, 0.14, 0.28):
        reach = math.sqrt(0.9**2 - (shift / math.sqrt(2)) ** 2 * 2) / math.sqrt(2) - 0.06
        middle = shift / math.sqrt(2)
        pen.line([(middle - reach, middle + reach), (middle + reach, middle - reach)], 0.07, BLACK)


#: what each class is called and how its sign is drawn; a label is the place in this table
SIGNS: dict[str, Callable[[_Pen], None]] = {
    "speed limit 30": _limit("30"),
    "speed limit 50": _limit("50"),
    "speed limit 80": _limit("80"),
    "no overtaking": _no_overtaking,
    "priority road": _priority,
    "yield": _yield,
    "stop": _stop,
    "no entry": _no_entry,
    "general caution": _caution,
    "bend to the left": _bend,
    "traffic signals": _signals,
    "pedestrians": _pedestrians,
    "end of all limits": _end_of_limits,
    "turn right": _turn_right,
    "turn left": _turn_left,
    "ahead only": _ahead,
    "ahead or right": _ahead_or_right,
    "roundabout": _roundabout,
}


def sign_faces(size: int) -> NDArray[np.float32]:
    """Draw every sign once.

    Args:
        size: edge in pixels.

    Returns:
        (classes, 4, size, size) in [0, 1]: red, green, blue (already multiplied by the opacity), opacity.

    """
    faces = []
    for draw in SIGNS.values():
        pen = _Pen()
        draw(pen)
        pixels = np.asarray(pen.image, dtype=np.float32) / 255
        pixels[..., :3] *= pixels[..., 3:]
        planes = [
            Image.fromarray(np.ascontiguousarray(pixels[..., channel])).resize(
                (size, size), Image.Resampling.BOX
            )
            for channel in range(4)
        ]
        faces.append(np.stack([np.asarray(plane) for plane in planes]))
    return np.stack(faces).astype(np.float32)
