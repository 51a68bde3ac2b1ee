"""Head, neck, ears, hair and hat: what a rendered face is set in."""

from __future__ import annotations

import numpy as np

from slimcam.training.data.drawing.canvas import Points, Sheet, View, closed_curve, ellipse, open_curve
from slimcam.training.data.drawing.traits import Color, Person, Shot

_SIDES = (-1, 1)

# Lowest point of the hair at the sides, in the face frame.
_SIDE_END = {"short": -10.0, "medium": 22.0, "long": 70.0}


# Shape of the hair's edge on the forehead: x as a fraction of the temple's half-width, y below the person's hairline.
_HAIRLINES = {
    "round": [(-0.75, 7), (-0.35, -1), (0.35, -1), (0.75, 7)],
    "widow": [(-0.75, 4), (-0.35, -4), (0, 5), (0.35, -4), (0.75, 4)],
    "receding": [(-0.7, -9), (-0.45, -12), (0, -1), (0.45, -12), (0.7, -9)],
    "fringe": [(-0.7, 17), (-0.25, 15), (0.25, 16), (0.7, 17)],
    "left part": [(-0.7, 3), (-0.4, -6), (0, 2), (0.4, 10), (0.75, 16)],
    "curtain": [(-0.75, 17), (-0.35, 4), (0, -8), (0.35, 4), (0.75, 17)],
}


def draw_head(sheet: Sheet, view: View, person: Person, shot: Shot) -> None:
    """What lies behind the features: long hair, neck, clothes, ears and the ground of the face."""
    hair = person.hair
    if person.hair_length != "short":
        end = _SIDE_END[person.hair_length]
        wide = person.cheek + person.hair_volume * 0.9
        back = [
            (-wide, -30.0),
            (-wide - 2, 0),
            (-wide - 1, end),
            (0, end + 6),
            (wide + 1, end),
            (wide + 2, 0),
            (wide, -30),
            (0, -80),
        ]
        sheet.fill(view.outline(closed_curve(back)), hair * 0.62)
    neck = person.jaw * 0.78
    sheet.fill(
        view.outline(np.array([(-neck, 10.0), (neck, 10), (neck, 75), (-neck, 75)])), person.skin * (0.62, 0.55, 0.53)
    )
    cloth = closed_curve(
        [(-neck, 50), (0, 58), (neck, 50), (neck + 40, 62), (neck + 40, 95), (-neck - 40, 95), (-neck - 40, 62)]
    )
    sheet.fill(view.outline(cloth), shot.cloth)
    for side in _SIDES:
        _draw_ear(sheet, view, person, side)
    sheet.fill(view.outline(_face_outline(person, shot)), person.skin)
    if person.hairline_kind in ("bald", "buzz"):
        skull = closed_curve(
            [*_skull(person, 0.0), (person.temple, -28.0), (0, person.hairline + 6), (-person.temple, -28)]
        )
        amount = 0.8 if person.hairline_kind == "buzz" else 0.12
        sheet.soft(view.outline(skull), amount * np.log((hair + 8) / person.skin))


def draw_hair(sheet: Sheet, view: View, person: Person, shot: Shot) -> None:
    """The hair in front of the face, strand by strand over a ground, and a hat over it."""
    if person.hairline_kind not in ("bald", "buzz"):
        _draw_front_hair(sheet, view, person, shot)
    if shot.hat:
        brim = -41.0
        wide = person.temple + person.hair_volume * 0.5 + 4
        top = open_curve(
            [(-wide, brim + 6), (-wide, -60), (-wide * 0.6, -90), (wide * 0.6, -90), (wide, -60), (wide, brim + 6)]
        )
        edge = open_curve(
            [(wide, brim + 6), (wide * 0.5, brim - 1), (0, brim - 3), (-wide * 0.5, brim - 1), (-wide, brim + 6)]
        )
        shape = view.outline(np.concatenate([top, edge]))
        color = 255 - shot.cloth
        sheet.fill(shape, color)
        sheet.stroke(view.outline(edge), color * 0.55, 3.0)


def _face_outline(person: Person, shot: Shot) -> Points:
    drop = 5.0 * shot.mouth_open
    half = [
        (person.temple * 0.62, -82.0),
        (person.temple, -48),
        (person.temple, -30),
        (person.cheek, -8),
        (person.cheek * 0.98, 8),
        (person.jaw, 24 + 0.4 * drop),
        (person.chin_width * 1.25, person.chin - 4.5 + drop),
        (person.chin_width * 0.5, person.chin + drop),
    ]
    return closed_curve(half + [(-x, y) for x, y in reversed(half)])


def _skull(person: Person, volume: float) -> list[tuple[float, float]]:
    """The top of the head from the left temple over the crown to the right one."""
    wide = person.temple + volume
    return [(-wide, -28.0), (-wide, -52), (-wide * 0.8, -74), (0, -88), (wide * 0.8, -74), (wide, -52), (wide, -28)]


def _draw_ear(sheet: Sheet, view: View, person: Person, side: int) -> None:
    # The ear turned towards the camera shows more of itself.
    shown = np.clip(1 - 2.2 * side * view.yaw, 0.25, 1.5)
    x = side * (person.cheek + person.ear_angle * 0.5 * shown)
    outer = ellipse(x, -9, person.ear_angle * shown, person.ears, side * 0.12)
    sheet.fill(view.outline(outer), person.skin * (0.93, 0.82, 0.79))
    inner = ellipse(x + side * 0.4, -10, person.ear_angle * shown * 0.5, person.ears * 0.6, side * 0.12)
    sheet.fill(view.outline(inner), person.skin * (0.70, 0.55, 0.51))


def _hairline(person: Person) -> list[tuple[float, float]]:
    """The edge of the hair on the forehead, left to right."""
    wide = person.temple
    if person.hairline_kind == "right part":
        edge = [(-x, y) for x, y in reversed(_HAIRLINES["left part"])]
    else:
        edge = _HAIRLINES[person.hairline_kind]
    middle = [(x * wide, person.hairline + y) for x, y in edge]
    return [(-wide * 0.93, -30.0), *middle, (wide * 0.93, -30.0)]


def _draw_front_hair(sheet: Sheet, view: View, person: Person, shot: Shot) -> None:
    rng = np.random.default_rng([person.texture_seed, shot.seed])
    end = min(_SIDE_END[person.hair_length], 60.0)
    inner = open_curve(_hairline(person))
    count = len(inner)
    outer = open_curve(_skull(person, person.hair_volume))
    outer = np.column_stack([np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(outer)), c) for c in outer.T])
    if person.hair_curl > 0:
        angle = np.random.default_rng(person.texture_seed).uniform(0, 6.28) + np.arange(count) * 1.9
        outer = outer * (1 + 0.045 * person.hair_curl * np.sin(angle)[:, None])
        inner = inner + 1.6 * person.hair_curl * np.column_stack([np.zeros(count), np.cos(1.3 * angle)])
    inner = inner + np.column_stack([np.zeros(count), rng.normal(0, 0.6, count)])
    on_face, on_skull = view.place(inner, 2.0), view.outline(outer)
    ground = person.hair
    sides = []
    for side, start_out, start_in in ((-1, outer[0], inner[0]), (1, outer[-1], inner[-1])):
        thick = 4.5 if person.hair_length == "short" else 4.5 + 0.5 * person.hair_volume
        tail = person.cheek + person.hair_volume * 0.4
        lock = open_curve([start_out, (side * (tail + 2), (start_out[1] + end) / 2), (side * tail, end)])
        back = open_curve([(side * (tail - 1.2), end), (side * (tail - thick), (start_in[1] + end) / 2), start_in])
        sides.append(np.concatenate([lock, back]))
        sheet.fill(view.outline(sides[-1]), ground * 0.86)
    sheet.fill(np.concatenate([on_face, on_skull[::-1]]), ground)
    _draw_strands(sheet, on_face, on_skull, person, rng)


def _draw_strands(sheet: Sheet, low: Points, high: Points, person: Person, rng: np.random.Generator) -> None:
    """Lines from the hairline to the crown, darker and lighter than the ground, with a band of shine."""
    t = np.linspace(0, 1, 6)[None, :, None]
    wave = 2.5 + 5 * person.hair_curl
    for factor in (0.62, 0.8, 1.22, 1.4):
        at = rng.integers(0, len(low), 11)
        across = np.clip(at + rng.integers(-2, 3, 11), 0, len(high) - 1)
        lines = low[at][:, None] * (1 - t) + high[across][:, None] * t
        sway = np.sin(t * (2 + 9 * person.hair_curl) + rng.uniform(0, 6.28, (11, 1, 1))) * wave
        lines = lines + sway * np.array([1.0, 0.3])
        span = slice(1, 5) if factor > 1 else slice(0, 6)
        sheet.strokes(lines[:, span], _shift(person.hair, factor), 0.6)


def _shift(color: Color, factor: float) -> Color:
    return color * factor + 6 * (factor > 1)
