"""Digits as a hand writes them: a few strokes whose points wander."""

from __future__ import annotations

import cv2
import numpy as np

from slimcam.training.data.images import Image

STROKES: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "0": (((0.5, 0.08), (0.22, 0.3), (0.2, 0.7), (0.5, 0.92), (0.8, 0.7), (0.78, 0.3), (0.5, 0.08)),),
    "1": (((0.32, 0.28), (0.52, 0.08), (0.53, 0.5), (0.52, 0.92)),),
    "2": (((0.22, 0.3), (0.35, 0.1), (0.65, 0.1), (0.75, 0.32), (0.5, 0.6), (0.22, 0.9), (0.5, 0.89), (0.8, 0.9)),),
    "3": (((0.25, 0.15), (0.6, 0.08), (0.75, 0.27), (0.48, 0.47), (0.78, 0.68), (0.6, 0.92), (0.22, 0.83)),),
    "4": (((0.6, 0.08), (0.4, 0.35), (0.2, 0.62), (0.5, 0.62), (0.82, 0.62)), ((0.62, 0.35), (0.6, 0.92))),
    "5": (((0.75, 0.1), (0.32, 0.1), (0.27, 0.45), (0.6, 0.42), (0.78, 0.65), (0.6, 0.9), (0.22, 0.85)),),
    "6": (((0.68, 0.1), (0.35, 0.35), (0.24, 0.7), (0.5, 0.92), (0.76, 0.72), (0.55, 0.52), (0.28, 0.66)),),
    "7": (((0.2, 0.12), (0.5, 0.11), (0.8, 0.12), (0.6, 0.5), (0.42, 0.92)),),
    "8": (
        (
            *((0.5, 0.5), (0.25, 0.3), (0.5, 0.08), (0.75, 0.3), (0.5, 0.5)),
            *((0.22, 0.72), (0.5, 0.92), (0.78, 0.72), (0.5, 0.5)),
        ),
    ),
    "9": (((0.72, 0.35), (0.5, 0.5), (0.27, 0.3), (0.5, 0.08), (0.73, 0.28), (0.7, 0.6), (0.5, 0.92)),),
}
"""Points that each stroke of a digit goes through, `(x, y)` from 0 to 1, rightwards and downwards."""

_OVERSAMPLED = 4
_WANDERING = 0.045


def draw_digit(name: str, side: int, rng: np.random.Generator) -> Image:
    """A digit in light on dark, `(side, side, 3)` uint8, all three colors alike.

    Args:
        name: `0` to `9`.
        side: Pixels.
        rng: What the hand, the pen and the paper are drawn from.
    """
    sheet = side * _OVERSAMPLED
    ink = np.zeros((sheet, sheet), np.uint8)
    turn, lean = rng.normal(0, 0.12), rng.normal(0, 0.15)
    size = sheet * rng.uniform(0.6, 0.85, 2)
    matrix = np.array([[np.cos(turn), lean - np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * size
    middle = sheet * (0.5 + rng.uniform(-0.08, 0.08, 2))
    pen = int(rng.integers(sheet // 20, sheet // 9))
    for points in STROKES[name]:
        wandering = np.array(points) - 0.5 + rng.normal(0, _WANDERING, (len(points), 2))
        line = _through(wandering) @ matrix.T + middle
        cv2.polylines(ink, [np.round(line).astype(np.int32)], False, 255, pen, cv2.LINE_AA)
    small = cv2.resize(ink, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    shade = rng.uniform(0.6, 1.0) * small + rng.uniform(0, 40) + rng.normal(0, rng.uniform(4, 25), small.shape)
    return np.repeat(np.clip(shade, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _through(points: np.ndarray) -> np.ndarray:
    """A smooth line through points, `(N, 2)` (Catmull and Rom 1974)."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    a, b, c, d = (padded[start : len(padded) - 3 + start, None] for start in range(4))
    t = np.linspace(0, 1, 12)[None, :, None]
    line = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.asarray(line.reshape(-1, 2))
