"""How a rendered face is photographed: what is behind and before it, the light on it, and the camera's faults."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from slimcam.training.data.drawing.canvas import SCALE, SIZE, Sheet, View, closed_curve, ellipse
from slimcam.training.data.drawing.traits import Person, Shot
from slimcam.training.data.images import IMAGE_SIZE, Image

_SIDES = (-1, 1)
_GRAY = np.array([[0.299, 0.587, 0.114]] * 3, dtype=np.float32)


def draw_background(shot: Shot) -> Image:
    """`(224, 224, 3)` of blurred shapes over a gradient."""
    rng = np.random.default_rng([3, shot.seed])
    size = IMAGE_SIZE // 2
    corners = rng.uniform(0, 255, (2, 2, 3)).astype(np.float32)
    gray = corners.mean(axis=2, keepdims=True)
    scene = cv2.resize(gray + (corners - gray) * 0.5, (size, size), interpolation=cv2.INTER_LINEAR)
    for _ in range(int(rng.integers(0, 9))):
        shade = rng.uniform(0, 255)
        color = np.clip(shade + rng.normal(0, 35, 3), 0, 255).tolist()
        x, y, w, h = rng.uniform(-10, 60, 4).astype(int).tolist()
        if rng.random() < 0.6:
            cv2.rectangle(scene, (x, y), (x + w // 2, y + h), color, -1)
        else:
            cv2.circle(scene, (x, y), abs(w) // 2 + 2, color, -1)
    if rng.random() < 0.35:
        scene += rng.normal(0, 30, (size, size, 1)).astype(np.float32)
    scene = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.4, 3))
    return np.asarray(cv2.resize(np.clip(scene, 0, 255).astype(np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR))


def draw_glasses(sheet: Sheet, view: View, person: Person, shot: Shot) -> None:
    """Glasses or sunglasses, where the shot has them."""
    if shot.glasses == "none":
        return
    half_width, half_height, roundness = shot.glasses_shape
    y = person.eye_y + 1.0
    for side in _SIDES:
        x = side * (person.eye_x + 0.4)
        k = 0.98 - 0.22 * roundness
        ring = [(1, 0), (k, k), (0, 1), (-k, k), (-1, 0), (-k, -k), (0, -1), (k, -k)]
        lens = view.place(closed_curve([(x + half_width * px, y + half_height * py) for px, py in ring]), 3.0)
        if shot.glasses == "sun":
            sheet.fill(lens, shot.glasses_color * 0.22)
            sheet.soft(view.place(ellipse(x - 3, y - 3, 4, 2, -0.5), 3.0), 0.5)
        else:
            sheet.soft(lens, 0.06)
            sheet.soft(view.place(ellipse(x - 3, y - 2, 1.2, 6, 0.6), 3.0), 0.22, fine=True)
        sheet.stroke(lens, shot.glasses_color, 1.0 + 0.6 * roundness, closed=True)
        hinge = (x + side * half_width, y - 2)
        arm = np.array([hinge, (side * (person.cheek + 1), y - 3)])
        sheet.stroke(view.place(arm, np.array([3.0, 0.0])), shot.glasses_color, 1.2)
    inner = person.eye_x + 0.4 - half_width
    bridge = np.array([(-inner, y - 2), (0, y - 3.5), (inner, y - 2)])
    sheet.stroke(view.place(bridge, np.array([3.0, 5.0, 3.0])), shot.glasses_color, 1.3)


def draw_occluder(sheet: Sheet, shot: Shot) -> None:
    """Something between the camera and the face, where the shot has it."""
    if shot.occluder == "none":
        return
    rng = np.random.default_rng([4, shot.seed])
    color = rng.uniform(10, 245, 3)
    if shot.occluder == "edge":
        depth = rng.uniform(14, 34, 2) * SCALE
        edge = np.array([(0, 0), (SIZE, 0), (SIZE, depth[0]), (0, depth[1])], float)
        for _ in range(int(rng.integers(1, 4))):
            edge = np.column_stack([SIZE - edge[:, 1], edge[:, 0]])
        sheet.fill(edge, color)
    elif shot.occluder == "bar":
        x, lean, wide = rng.uniform(0, SIZE), rng.normal(0, 30), rng.uniform(5, 13) * SCALE
        sheet.fill(np.array([(x, 0), (x + wide, 0), (x + wide + lean, SIZE), (x + lean, SIZE)]), color)
    else:
        skin = np.array([214, 164, 134]) * rng.uniform(0.4, 1.1)
        x, y = rng.choice((0.12, 0.88)) * SIZE, rng.uniform(0.7, 1.0) * SIZE
        for finger in range(4):
            tip = ellipse(x + 9 * SCALE * (finger - 1.5), y, 4.6 * SCALE, 24 * SCALE, rng.normal(0, 0.08))
            sheet.fill(tip, skin)
            sheet.stroke(tip, skin * 0.6, 0.6, closed=True)


def light(pixels: Image, background: Image, view: View, shot: Shot) -> Image:
    """Shades the head as an ellipsoid under a directional light; the background keeps its own."""
    size = IMAGE_SIZE // 2
    center, radius_x = view.outline(np.array([(0.0, -8.0)]))[0], view.width * 1.04 * view.pixel
    grid = (np.arange(size, dtype=np.float32) + 0.5) * (SIZE / size)
    nx = ((grid - center[0]) / radius_x)[None, :]
    ny = ((grid - center[1]) / (radius_x * 1.5))[:, None]
    r2 = nx**2 + ny**2
    nz = np.sqrt(np.maximum(1 - r2, 0.03))
    direct = np.maximum(nx * shot.light[0] + ny * shot.light[1] + nz * shot.light[2] + 0.15, 0)
    step = SIZE // size
    drawn = (pixels[1::step, 1::step] != background[1::step, 1::step]).any(axis=2).astype(np.float32)
    head = cv2.GaussianBlur(drawn, (0, 0), 0.7)
    amount = (1 + head * shot.light_strength * (1.15 * direct - 0.95)) * shot.exposure
    factor = (amount[..., None] * shot.light_color).astype(np.float32)
    return np.asarray(cv2.multiply(pixels, cv2.resize(factor, (SIZE, SIZE)), dtype=cv2.CV_8U))


def expose(pixels: Image, shot: Shot) -> Image:
    """`(224, 224, 3)` to the `(112, 112, 3)` that a camera delivers: tone, blur, noise and compression."""
    rng = np.random.default_rng([5, shot.seed])
    picture = cv2.resize(pixels, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA).astype(np.float32)
    mix = np.eye(3, dtype=np.float32) * shot.saturation + _GRAY * (1 - shot.saturation)
    picture = cv2.transform(picture, mix * shot.contrast) + np.float32(118 * (1 - shot.contrast))
    if shot.low_resolution < 1:
        small = cv2.resize(picture, None, fx=shot.low_resolution, fy=shot.low_resolution, interpolation=cv2.INTER_AREA)
        picture = cv2.resize(small, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_LINEAR)
    picture = cv2.GaussianBlur(picture, (0, 0), shot.blur)
    if shot.motion:
        kernel = np.zeros((7, 7), np.float32)
        along = np.array([np.cos(shot.motion * 9), np.sin(shot.motion * 9)]) * shot.motion / 2
        first, last = np.round(3 - along).astype(int).tolist(), np.round(3 + along).astype(int).tolist()
        cv2.line(kernel, first, last, 1.0)
        picture = cv2.filter2D(picture, -1, kernel / kernel.sum())
    picture += rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(shot.noise)
    image = np.clip(picture, 0, 255).astype(np.uint8)
    _, code = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, shot.jpeg])
    delivered: Any = cv2.imdecode(code, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(delivered[..., ::-1])
