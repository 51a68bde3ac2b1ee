"""Light and faults of a camera."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.training.data.images import Image

Float = NDArray[np.float32]


def photograph(image: Image, smallest: float, rng: np.random.Generator) -> Image:
    """A scene as a camera delivers it: blur, light, color, noise and compression.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        smallest: size of the smallest face, which sets how much blur is borne, pixels.
    """
    if rng.random() < 0.06 and smallest >= 24:
        height, width = image.shape[:2]
        share = max(rng.uniform(0.4, 0.9), 14 / smallest)
        small = cv2.resize(image, (round(width * share), round(height * share)), interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, min(0.3 + 0.03 * smallest, 2.0)))
    if rng.random() < 0.06:
        image = cv2.filter2D(image, -1, _motion(min(0.15 * smallest, 9.0), rng))
    image = _developed(image, rng)
    dark = rng.random() < 0.12
    if dark:
        light = rng.uniform(0.14, 0.5)
        image = cv2.LUT(image, np.clip(np.arange(256) * light + rng.uniform(0, 12), 0, 255).astype(np.uint8))
    if dark or rng.random() < 0.35:
        image = noisy(image, min(float(rng.exponential(4.0)) + 0.5, 18.0), rng)
    if rng.random() < 0.35:
        _, code = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 96))])
        compressed: Any = cv2.imdecode(code, cv2.IMREAD_COLOR)
        image = cv2.cvtColor(compressed, cv2.COLOR_BGR2RGB)
    return image


def relit(image: Image, rng: np.random.Generator) -> Image:
    """In another light than the rest of the scene, or not."""
    if rng.random() < 0.6:
        return image
    values = (np.arange(256) / 255) ** math.exp(rng.normal(0, 0.3)) * 255 * math.exp(rng.normal(0, 0.2))
    changed: Image = cv2.LUT(image, np.clip(values + rng.normal(0, 12), 0, 255).astype(np.uint8))
    return changed


def _developed(image: Image, rng: np.random.Generator) -> Image:
    """With another contrast, brightness, saturation and cast of color, or gray."""
    gray = rng.random() < 0.08
    if not gray and rng.random() < 0.4:
        return image
    saturation = 0.0 if gray else math.exp(rng.normal(0, 0.25))
    mix = saturation * np.eye(3) + (1 - saturation) * np.array([[0.299, 0.587, 0.114]])
    gain = math.exp(rng.normal(0, 0.2)) * (np.ones(3) if gray else np.exp(rng.normal(0, 0.08, 3)))
    offset = 128 * (1 - gain.mean()) + rng.normal(0, 18)
    developed: Image = cv2.transform(image, np.column_stack([mix * gain[:, None], np.full(3, offset)]))
    return developed


def _motion(length: float, rng: np.random.Generator) -> Float:
    """The kernel of a straight movement of so many pixels."""
    side = 2 * math.ceil(length / 2) + 1
    kernel = np.zeros((side, side), dtype=np.float32)
    angle = rng.uniform(0, np.pi)
    along = np.array([math.cos(angle), math.sin(angle)]) * length / 2
    first, last = (np.rint(side // 2 + sign * along).astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, first, last, 1.0)
    return np.asarray(kernel / kernel.sum())


def noisy(image: Image, deviation: float, rng: np.random.Generator) -> Image:
    """With normal noise in all channels."""
    grain = _grain()
    half = len(grain) // 2
    start = int(rng.integers(0, half))
    noise = np.resize(grain[start : start + half], image.size)
    grainy = cv2.scaleAdd(noise.reshape(image.shape), float(deviation), image.astype(np.float32))
    return np.asarray(np.clip(grainy, 0, 255), dtype=np.uint8)


@lru_cache(maxsize=1)
def _grain() -> Float:
    """Standard normal values to take pieces of: sampling them again would cost more than all else."""
    return np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32)
