"""Faces of road signs (Vienna Convention, as in Europe), flat and from the front."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.training.data.images import Image

SIDE = 160
"""Pixels of a sign's sheet."""

_BITS = 4

Color = tuple[float, float, float]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Paint:
    """The colors of one sign, which fade and differ from maker to maker."""

    red: Color
    blue: Color
    yellow: Color
    white: Color
    black: Color


class _Sign:
    """A sheet that is painted in coordinates of -1 to 1; `alpha` is 255 where the sign is."""

    def __init__(self, paint: Paint, rng: np.random.Generator) -> None:
        self.paint, self.rng = paint, rng
        self.pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        self.alpha = np.zeros((SIDE, SIDE), np.uint8)
        self.rim = float(rng.uniform(0.78, 0.86))
        """How far the field inside the rim reaches."""

    def plate(self, points: Points, color: Color) -> None:
        cv2.fillPoly(self.alpha, [_fixed(points)], (255,), cv2.LINE_AA, _BITS)
        self.fill(points, color)

    def fill(self, points: Points, color: Color) -> None:
        cv2.fillPoly(self.pixels, [_fixed(points)], color, cv2.LINE_AA, _BITS)

    def line(self, points: Points, color: Color, width: float, *, closed: bool = False) -> None:
        cv2.polylines(self.pixels, [_fixed(points)], closed, color, max(1, round(width * SIDE / 2)), cv2.LINE_AA, _BITS)

    def text(self, text: str, height: float, color: Color) -> None:
        """Letters in the middle, so high."""
        thickness = max(2, round(height * self.rng.uniform(10, 14)))
        font = cv2.FONT_HERSHEY_DUPLEX if self.rng.random() < 0.7 else cv2.FONT_HERSHEY_SIMPLEX
        scale = cv2.getFontScaleFromHeight(font, round(height * SIDE / 2), thickness)
        (width, tall), _ = cv2.getTextSize(text, font, scale, thickness)
        squeeze = min(1.0, 1.25 * SIDE / 2 / width)
        place = (round(SIDE / 2 - squeeze * width / 2), round(SIDE / 2 + tall / 2))
        cv2.putText(self.pixels, text, place, font, scale * squeeze, color, thickness, cv2.LINE_AA)


def _fixed(points: Points) -> NDArray[np.int32]:
    return np.rint((points * 0.98 + 1) * (SIDE / 2) * (1 << _BITS)).astype(np.int32)


def _regular(corners: int, turn: float = 0.0, radius: float = 1.0, middle: tuple[float, float] = (0, 0)) -> Points:
    angles = np.deg2rad(turn) + np.arange(corners) * 2 * np.pi / corners
    return np.asarray(radius * np.column_stack([np.sin(angles), -np.cos(angles)]) + np.array(middle))


def _box(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _ring(sign: _Sign) -> None:
    """The red rim and white field of a prohibition."""
    sign.plate(_regular(48), sign.paint.red)
    sign.fill(_regular(48, radius=sign.rim), sign.paint.white)


def _speed(limit: int) -> Callable[[_Sign], None]:
    def draw(sign: _Sign) -> None:
        _ring(sign)
        sign.text(str(limit), float(sign.rng.uniform(0.62, 0.78)), sign.paint.black)

    return draw


def _stop(sign: _Sign) -> None:
    sign.plate(_regular(8, 22.5), sign.paint.white)
    sign.fill(_regular(8, 22.5, 0.94), sign.paint.red)
    sign.text("STOP", 0.5, sign.paint.white)


def _yield(sign: _Sign) -> None:
    sign.plate(_regular(3, 180), sign.paint.red)
    sign.fill(_regular(3, 180, float(sign.rng.uniform(0.58, 0.68))), sign.paint.white)


def _danger(sign: _Sign) -> None:
    sign.plate(_regular(3), sign.paint.red)
    sign.fill(_regular(3, radius=float(sign.rng.uniform(0.62, 0.72))), sign.paint.white)
    sign.fill(np.array([(-0.08, -0.4), (0.08, -0.4), (0.04, 0.1), (-0.04, 0.1)]), sign.paint.black)
    sign.fill(_regular(12, radius=0.075, middle=(0, 0.23)), sign.paint.black)


def _no_entry(sign: _Sign) -> None:
    sign.plate(_regular(48), sign.paint.red)
    sign.fill(_box(-0.7, -0.17, 0.7, 0.17), sign.paint.white)


def _no_parking(sign: _Sign) -> None:
    sign.plate(_regular(48), sign.paint.red)
    sign.fill(_regular(48, radius=sign.rim), sign.paint.blue)
    sign.line(np.array([(-0.55, -0.55), (0.55, 0.55)]), sign.paint.red, 0.18)


def _priority(sign: _Sign) -> None:
    sign.plate(_regular(4), sign.paint.white)
    sign.fill(_regular(4, radius=float(sign.rng.uniform(0.66, 0.76))), sign.paint.yellow)


def _arrow(side: int) -> Callable[[_Sign], None]:
    def draw(sign: _Sign) -> None:
        sign.plate(_regular(48), sign.paint.blue)
        bend = np.array([(-0.25, 0.62), (-0.25, 0.0), (0.3, 0.0)]) * (side, 1)
        sign.line(bend, sign.paint.white, 0.2)
        sign.fill(np.array([(0.25, -0.32), (0.68, 0.0), (0.25, 0.32)]) * (side, 1), sign.paint.white)

    return draw


def _roundabout(sign: _Sign) -> None:
    sign.plate(_regular(48), sign.paint.blue)
    for turn in (0.0, 120.0, 240.0):
        arc = _regular(72, turn, 0.5)[:15]
        sign.line(arc, sign.paint.white, 0.15)
        along = arc[-1] - arc[-2]
        along /= np.hypot(*along)
        across = np.array([along[1], -along[0]])
        sign.fill(arc[-1] + np.array([0.24 * across, 0.3 * along, -0.24 * across]), sign.paint.white)


def _crossing(sign: _Sign) -> None:
    sign.plate(_box(-0.95, -0.95, 0.95, 0.95), sign.paint.blue)
    sign.fill(np.array([(0.0, -0.78), (0.8, 0.65), (-0.8, 0.65)]), sign.paint.white)
    walker = sign.paint.black
    sign.fill(_regular(12, radius=0.09, middle=(0.03, -0.4)), walker)
    sign.line(np.array([(0.0, -0.28), (0.0, 0.1), (0.2, 0.5)]), walker, 0.11)
    sign.line(np.array([(0.0, 0.1), (-0.22, 0.5)]), walker, 0.11)
    sign.line(np.array([(-0.25, 0.0), (0.0, -0.2), (0.25, 0.0)]), walker, 0.07)


FACES: dict[str, Callable[[_Sign], None]] = {
    "danger": _danger,
    "no entry": _no_entry,
    "no parking": _no_parking,
    "pedestrian crossing": _crossing,
    "priority road": _priority,
    "roundabout": _roundabout,
    "speed limit 30": _speed(30),
    "speed limit 50": _speed(50),
    "speed limit 80": _speed(80),
    "stop": _stop,
    "turn left": _arrow(-1),
    "turn right": _arrow(1),
    "yield": _yield,
}
"""What each sign is, and how its face is drawn, in the order of their names."""


def draw_sign(name: str, rng: np.random.Generator) -> tuple[Image, NDArray[np.uint8]]:
    """A sign's sheet, `(SIDE, SIDE, 3)` uint8 RGB, and where the sign is, `(SIDE, SIDE)`, 255 inside."""
    fade = rng.uniform(0, 0.35)

    def color(red: float, green: float, blue: float) -> Color:
        pure = np.array([red, green, blue]) * np.exp(rng.normal(0, 0.08, 3))
        shown = np.clip(pure + fade * (np.mean(pure) * 0.6 + 60 - pure), 0, 255)
        return float(shown[0]), float(shown[1]), float(shown[2])

    paint = Paint(color(196, 22, 34), color(22, 74, 158), color(250, 196, 20), color(238, 238, 234), color(24, 24, 26))
    sign = _Sign(paint, rng)
    FACES[name](sign)
    return sign.pixels, sign.alpha
