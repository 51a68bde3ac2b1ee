"""Eyes, brows, nose, mouth, skin marks and beard of a rendered face."""

from __future__ import annotations

import cv2
import numpy as np

from slimcam.training.data.drawing.canvas import Plane, Points, Sheet, View, closed_curve, ellipse, open_curve
from slimcam.training.data.drawing.traits import Person, Shot
from slimcam.training.data.images import IMAGE_SIZE

_SIDES = (-1, 1)
_DARK = np.array([0.50, 0.36, 0.32])

# Reach of the tips as a fraction of the mouth, how far below its corners they end, and the height above the lip.
_MUSTACHE_SHAPES = {"thin": (0.85, 0.5, 2.0), "thick": (1.08, 1.5, 4.6), "handlebar": (1.3, 6.0, 4.0)}


def model_skin(sheet: Sheet, view: View, person: Person, shot: Shot) -> None:
    """Shapes brow, sockets, cheeks, nose and chin by shade, ages the skin; `Sheet.press` makes it visible."""
    _shade_nose(sheet, view, person, shot)
    smile = max(shot.smile, 0.0)
    old = person.age
    for side in _SIDES:
        x, y = side * person.eye_x, person.eye_y
        sheet.soft(view.place(ellipse(x, y - 2.5, person.eye_width * 1.15, 5.5)), -0.22)
        sheet.soft(view.place(ellipse(x - side * 7, y - 2, 4, 5)), -0.16)
        sheet.soft(view.place(ellipse(x, y + 6.5, person.eye_width, 2.0)), -0.25 * person.eye_bags, fine=True)
        cheek_y = 0.5 - 1.5 * smile
        sheet.soft(view.place(ellipse(side * 23, cheek_y, 7, 5)), 0.10 + 0.08 * smile)
        sheet.soft(view.place(ellipse(side * 25, 14, 6, 11, side * 0.25)), -0.20 * person.cheekbones)
        sheet.soft(view.place(ellipse(side * 23, 4, 8, 6)), np.array([0.02, -0.1, -0.07]) * person.blush)
        fold = -(0.03 + 0.30 * old + 0.14 * smile)
        wing, corner = person.nose_width + 1.5, person.mouth_width + 3.5
        line = open_curve(
            [(side * wing, person.nose_base - 4), (side * (wing + 4), 11), (side * corner, person.mouth_y + 1)]
        )
        sheet.soft(view.place(_band(line, 1.0)), fold, fine=True)
        if old > 0.4:
            _crows_feet(sheet, view, person, side)
    if old > 0.35:
        for row in range(3):
            y = person.eye_y - 20 - 5.5 * row
            line = open_curve([(-17 + 2 * row, y + 1), (-7, y - 0.6), (6, y), (17 - 2 * row, y + 1)])
            depth = -0.35 * (old - 0.3) * (1 + max(shot.brow_raise, 0))
            sheet.soft(view.place(_band(line, 0.6)), depth, fine=True)
    if shot.brow_raise < -0.3:
        for side in _SIDES:
            frown = ellipse(side * 2.4, person.eye_y - 7, 0.8, 4)
            sheet.soft(view.place(frown), 0.5 * shot.brow_raise, fine=True)
    mouth = person.mouth_y
    drop = 5 * shot.mouth_open
    sheet.soft(view.place(ellipse(0, mouth + person.lower_lip + 3.6 + drop, 8, 2.0)), -0.34)
    sheet.soft(view.place(ellipse(0, person.chin - 7 + drop, person.chin_width * 0.6, 4.5)), 0.12)
    sheet.soft(view.place(ellipse(0, (person.nose_base + mouth - 2) / 2, 1.5, 3)), -0.14, fine=True)
    sheet.soft(view.place(ellipse(0, person.chin - 6 + drop, 0.9, 3.5)), -0.5 * person.chin_cleft, fine=True)
    sheet.soft(view.place(ellipse(0, person.eye_y - 20, 20, 9)), 0.08)


def draw_marks(sheet: Sheet, view: View, person: Person) -> None:
    """Freckles, moles and a scar."""
    freckle = person.skin * np.array([0.80, 0.66, 0.56])
    for place, radius in zip(view.place(person.freckles[:, :2]), person.freckles[:, 2], strict=True):
        sheet.dot(place, float(radius), freckle)
    for place, radius in zip(view.place(person.moles[:, :2]), person.moles[:, 2], strict=True):
        sheet.dot(place, float(radius), person.skin * _DARK)
    if len(person.scar):
        x, y, angle, length = person.scar
        center, along = np.array([x, y]), np.array([np.cos(angle), np.sin(angle)]) * length / 2
        line = open_curve([center - along, center + along[::-1] / 6, center + along])
        sheet.stroke(view.place(line), person.skin * 0.55 + np.array([110, 84, 80]), 0.9)


def draw_nostrils(sheet: Sheet, view: View, person: Person) -> None:
    """The openings and the lines around the wings; what the shade of the nose ends in."""
    base, width = person.nose_base, person.nose_width
    for side in _SIDES:
        opening = ellipse(side * width * 0.48, base - 0.9, width * 0.24, 0.6 + 1.0 * person.nostrils, side * -0.35)
        sheet.fill(view.place(opening, person.nose_height * 0.6), person.skin * _DARK * 0.75)
        wing = open_curve(
            [(side * width * 0.86, base - 6.2), (side * width, base - 3.2), (side * width * 0.78, base - 0.6)]
        )
        sheet.stroke(view.place(wing, person.nose_height * 0.3), person.skin * np.array([0.72, 0.60, 0.56]), 0.6)


def draw_eyes(sheet: Sheet, view: View, person: Person, shot: Shot) -> None:
    """Both eyes with lids, lashes, iris and gaze."""
    for side in _SIDES:
        _draw_eye(sheet, view, person, shot, side)


def draw_brows(sheet: Sheet, view: View, person: Person, shot: Shot) -> None:
    """Both brows, hair by hair over a thin ground."""
    rng = np.random.default_rng(person.texture_seed)
    color = np.minimum(person.hair, 150) * 0.8
    ground = color * person.brow_density + person.skin * (1 - person.brow_density)
    for side in _SIDES:
        y = person.eye_y - person.brow_height - 2.6 * shot.brow_raise + side * person.eye_asymmetry
        inner = person.eye_x - person.brow_length * 0.92 + person.brow_inner + 0.9 * min(shot.brow_raise, 0)
        length = 2 * person.brow_length
        sag = 1.4 * min(shot.brow_raise, 0)
        middle = open_curve(
            [
                (side * inner, y + 0.8 - sag),
                (side * (inner + 0.35 * length), y - 0.45 * person.brow_arch),
                (side * (inner + 0.68 * length), y - person.brow_arch - 0.6 * person.brow_tilt),
                (side * (inner + length), y + 1.2 - person.brow_tilt),
            ]
        )
        taper = np.interp(np.linspace(0, 1, len(middle)), (0, 0.12, 0.6, 1), (0.55, 1, 0.85, 0.12))[:, None]
        half = np.array([[0.0, person.brow_thickness]]) * taper
        shape = view.place(np.concatenate([middle - half, (middle + half)[::-1]]), 2.0)
        sheet.fill(shape, ground)
        foot = middle[rng.integers(0, len(middle) - 2, 14)] + rng.uniform(-0.8, 0.8, (14, 1)) * (
            0,
            person.brow_thickness,
        )
        tip = foot + np.array([side * 2.0, -0.9])
        hairs = view.place(np.stack([foot, tip], 1).reshape(-1, 2), 2.0).reshape(-1, 2, 2)
        sheet.strokes(hairs, color * 0.8)


def draw_mouth(sheet: Sheet, view: View, person: Person, shot: Shot) -> None:
    """Lips, and teeth and tongue where the mouth is open."""
    smile, gap = shot.smile, 7.5 * shot.mouth_open + 0.02
    width = person.mouth_width * (1 + 0.16 * max(smile, 0) - 0.10 * shot.mouth_open)
    y = person.mouth_y
    corner = y - person.mouth_tilt - 2.2 * smile + 0.3 * gap
    upper, lower = person.upper_lip * (1 - 0.18 * max(smile, 0)), person.lower_lip * (1 - 0.12 * max(smile, 0))
    bow = person.cupid_bow
    red = shot.lipstick * np.array([0.1, -0.55, -0.35])
    lips = person.lips * np.exp(red)
    right = [
        (0.0, y - upper + bow * 0.8),
        (0.22 * width, y - upper - bow * 0.3),
        (0.6 * width, (y + corner) / 2 - 0.62 * upper),
    ]
    seam_up = [(0.0, y + 0.3), (0.45 * width, y + 0.25 * (corner - y))]
    seam_low = [(0.0, y + 0.3 + gap), (0.45 * width, y + 0.25 * (corner - y) + 0.85 * gap)]
    bottom = [
        (0.0, y + lower + gap),
        (0.4 * width, y + 0.86 * lower + 0.9 * gap),
        (0.75 * width, (y + corner) / 2 + 0.5 * lower + 0.5 * gap),
    ]
    end = [(width, corner)]

    def both(half: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(-px, py) for px, py in half[:0:-1]] + half

    top_line, bottom_line = open_curve(both(right + end)), open_curve(both(bottom + end))
    sheet.fill(view.place(np.concatenate([top_line, bottom_line[::-1]]), 1.5), lips)
    upper_seam, lower_seam = open_curve(both(seam_up + end)), open_curve(both(seam_low + end))
    # The upper lip faces down and is the darker one.
    sheet.fill(view.place(np.concatenate([top_line, upper_seam[::-1]]), 1.5), lips * 0.86)
    hole = view.place(np.concatenate([upper_seam, lower_seam[::-1]]), 0.5)
    if gap > 0.6:
        inside = Sheet(sheet.pixels.copy())
        inside.fill(hole, (52, 18, 20))
        tongue = ellipse(0, y + gap + 1.5, 0.5 * width, 0.42 * gap)
        inside.fill(view.place(tongue), (150, 72, 74))
        teeth = ellipse(0, y - 0.6, 0.74 * width, min(0.5 * gap, 3.2) + 0.6)
        inside.fill(view.place(teeth), (226, 220, 206))
        sheet.paste(hole, inside)
    else:
        sheet.stroke(view.place(upper_seam, 1.5), lips * np.array([0.5, 0.4, 0.4]), 0.7)
    shine = ellipse(0, y + gap + 0.55 * lower, 0.3 * width, 0.22 * lower)
    sheet.soft(view.place(shine, 1.5), 0.14, fine=True)
    for side in _SIDES:
        sheet.soft(view.place(ellipse(side * (width + 0.5), corner, 1.3, 1.1)), -0.3, fine=True)


def draw_beard(sheet: Sheet, view: View, person: Person, shot: Shot) -> None:
    """Beard and mustache, tinted into the skin; `Sheet.press` makes them visible."""
    texture = _hair_texture(person.texture_seed)
    tint = np.log((person.hair * 0.8 + 4) / person.skin) * (0.35 if person.beard == "stubble" else 0.9)
    drop = 5 * shot.mouth_open
    chin, mouth = person.chin + drop + 3, person.mouth_y
    lip = mouth + person.lower_lip + 2.5 + 1.3 * drop
    if person.beard in ("full", "stubble"):
        cheek, jaw, width = person.cheek, person.jaw, person.mouth_width
        edge = [(0.0, chin), (1.1 * person.chin_width, chin - 2), (1.03 * jaw, 24), (0.97 * cheek, 8), (cheek, -10)]
        inner = [(0.9 * cheek, -9.0), (0.76 * cheek, 8), (0.66 * jaw, 17), (1.2 * width, mouth + 1), (0.0, lip)]
        for side in _SIDES:
            half = np.concatenate([open_curve(edge), open_curve(inner)]) * (side, 1)
            sheet.soft(view.place(half), tint, fine=True, texture=texture)
    elif person.beard == "goatee":
        tuft = ellipse(0, (lip + chin) / 2, person.mouth_width * 0.7, (chin - lip) / 2 + 1)
        sheet.soft(view.place(tuft), tint, fine=True, texture=texture)
    style = "thick" if person.mustache == "none" and person.beard in ("full", "stubble") else person.mustache
    if style != "none":
        reach, low, high = _MUSTACHE_SHAPES[style]
        width, top, corner = person.mouth_width, mouth - person.upper_lip, mouth - 1.5 * shot.smile
        above = [(0.0, top - high + 0.6), (0.5 * width, top - high + 0.8), (reach * width, corner + low)]
        below = [(0.55 * width, corner - person.upper_lip + 0.2), (0.0, top)]
        half = closed_curve(above + below)
        for side in _SIDES:
            sheet.soft(view.place(half * (side, 1), 1.0), tint, fine=True, texture=texture)


def _draw_eye(sheet: Sheet, view: View, person: Person, shot: Shot, side: int) -> None:
    x, y = side * person.eye_x, person.eye_y + 0.6 * side * person.eye_asymmetry
    half, squint = person.eye_width, 1 - 0.25 * max(shot.smile, 0)
    closed = min(shot.eyes_closed * 1.1, 1.0)
    up = person.eye_height * (1 - closed) * (1 + 0.18 * max(shot.brow_raise, 0)) - 1.6 * closed
    low = person.eye_height * 0.62 * (squint - 0.1 * closed)
    inner, outer = (x - side * half, y + 0.9), (x + side * half, y + 0.2 - person.eye_tilt)
    lift = 0.4 * person.eye_tilt
    upper = open_curve(
        [inner, (x - side * 0.45 * half, y - 0.82 * up), (x + side * 0.3 * half, y - up - 0.5 * lift), outer]
    )
    lower = open_curve([inner, (x - side * 0.3 * half, y + 0.85 * low), (x + side * 0.4 * half, y + low - lift), outer])
    opening = view.place(np.concatenate([upper, lower[::-1]]))
    if closed < 0.85:
        ball = Sheet(sheet.pixels.copy())
        ball.fill(opening, (226, 222, 218))
        shadow = np.concatenate([upper, _below(upper, 1.5)[::-1]])
        gx, gy = x + 2.6 * shot.gaze[0], y - 0.6 + 1.6 * shot.gaze[1]
        r = person.iris_radius
        ball.fill(view.place(ellipse(gx, gy, r, r)), person.iris * 0.55)
        ball.fill(view.place(ellipse(gx, gy, 0.84 * r, 0.84 * r)), person.iris)
        ball.fill(view.place(ellipse(gx, gy + 0.3 * r, 0.55 * r, 0.45 * r)), person.iris * 1.25 + 8)
        ball.fill(view.place(ellipse(gx, gy, 0.42 * r, 0.42 * r)), (14, 12, 12))
        ball.fill(view.place(shadow), person.iris * 0.25 + 12)
        glint = np.array([gx + 1.6 * shot.light[0], gy + 1.6 * shot.light[1] - 0.5])
        ball.dot(view.place(glint[None])[0], 0.65, (248, 248, 250))
        sheet.paste(opening, ball)
        sheet.fill(
            view.place(ellipse(inner[0] + side * 0.9, inner[1], 1.0, 0.6)), person.lips * 0.5 + person.skin * 0.5
        )
    lash = np.minimum(person.hair, 70) * 0.5
    sheet.stroke(view.place(upper), lash, person.lashes * 0.75)
    tail = np.array([outer, (outer[0] + side * 1.6 * person.lashes, outer[1] - 0.8 * person.lashes)])
    sheet.stroke(view.place(tail), lash, 0.6)
    sheet.stroke(view.place(lower), person.skin * np.array([0.62, 0.48, 0.44]), 0.5)
    if person.lid_fold > 0.3:
        fold = _below(upper, -1.2 - 1.6 * person.lid_fold - 1.2 * closed)
        sheet.stroke(view.place(fold[2:]), person.skin * np.array([0.66, 0.53, 0.48]), 0.6)


def _shade_nose(sheet: Sheet, view: View, person: Person, shot: Shot) -> None:
    base, width, bridge, tall = person.nose_base, person.nose_width, person.nose_bridge, person.nose_height
    tip = base - 5.0
    ridge = np.array([(0.0, person.eye_y - 3), (0, tip)])
    heights = np.array([1.0, tall])
    top_x, low_x = bridge * 0.55, person.nose_tip * 0.6
    lit = np.array([(-top_x, ridge[0, 1]), (top_x, ridge[0, 1]), (low_x, tip + 2), (-low_x, tip + 2)])
    sheet.soft(view.place(lit, np.repeat(heights, 2)), 0.16, fine=True)
    for side in _SIDES:
        flank = np.array(
            [
                (side * bridge, person.eye_y - 2),
                (side * (bridge + 2.2), person.eye_y + 4),
                (side * width, base - 3),
                (side * width * 0.55, base - 1),
                (side * low_x, tip),
                (side * top_x, person.eye_y),
            ]
        )
        facing = side * float(shot.light[0])
        shade = -0.14 + 0.22 * facing * shot.light_strength
        sheet.soft(view.place(flank, np.array([0, 0, 0.2, 0.5, 0.9, 0.3]) * tall), shade)
        sheet.soft(view.place(ellipse(side * width * 0.72, base - 3.2, width * 0.26, 2.4), tall * 0.4), 0.08, fine=True)
    sheet.soft(view.place(ellipse(0, tip, person.nose_tip, person.nose_tip * 0.8), tall), 0.16)
    under = ellipse(0, base - 0.2, width * 0.75, 1.5)
    sheet.soft(view.place(under, tall * 0.5), -0.42, fine=True)
    # A shadow thrown on the lip and the cheek away from the light.
    throw = np.array([-7.0 * shot.light[0], 3.5 - 4.0 * min(float(shot.light[1]), 0)])
    cast = ellipse(float(throw[0]), base + float(throw[1]) * 0.4, width * 0.8, 2.6)
    sheet.soft(view.place(cast), -0.28 * shot.light_strength)


def _crows_feet(sheet: Sheet, view: View, person: Person, side: int) -> None:
    x, y = side * (person.eye_x + person.eye_width + 1.5), person.eye_y
    for rise in (-2.5, 0.0, 2.5):
        line = np.array([(x, y + 0.3 * rise), (x + side * 5, y + rise)])
        sheet.soft(view.place(_band(line, 0.4)), -0.45 * (person.age - 0.3), fine=True)


def _below(line: Points, distance: float) -> Points:
    return np.asarray(line + np.array([0.0, distance]))


def _band(line: Points, half: float) -> Points:
    """A strip of constant height around a line, `half` to each side."""
    return np.concatenate([_below(line, -half), _below(line, half)[::-1]])


def _hair_texture(seed: int) -> Plane:
    """`(112, 112, 1)` amounts 0.4..1.2 that look like short hairs."""
    noise = np.random.default_rng(seed).standard_normal((IMAGE_SIZE, IMAGE_SIZE)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.5, sigmaY=1.2)
    return np.asarray(np.clip(0.85 + 0.4 * noise, 0.35, 1.2)[..., None], dtype=np.float32)
