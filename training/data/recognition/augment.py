"""Random changes of training images, drawn from a generator that the caller seeds."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.images import Image


@dataclass
class AugmentConfig:
    """Random changes of a training image; each is a largest amount or a probability.

    Attributes:
        flip: probability of the mirror image.
        shift: pixels, each axis. scale: relative. rotate: degrees (the crop jitter of an imperfect alignment).
        brightness, contrast, saturation: relative.
        blur: probability of a Gaussian blur of up to 1.5 pixels.
        occlusion: probability of a grey rectangle over up to a quarter of the face.
        mix: probability of a blend with another face, all over (Zhang et al. 2018, "mixup") or here more of the one
            and there more of the other (after Yun et al. 2019, "CutMix").
        bend: probability of a smooth, random displacement by up to a few pixels.

    What is mixed or bent is another person's face, or nobody's: for distillation from a teacher that sees it too. A
    classification loss leaves it out.
    """

    flip: float = 0.5
    shift: float = 4.0
    scale: float = 0.06
    rotate: float = 4.0
    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.25
    blur: float = 0.1
    occlusion: float = 0.1
    mix: float = 0.0
    bend: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= chance <= 1 for chance in (self.flip, self.blur, self.occlusion, self.mix, self.bend)):
            raise ValueError(f"flip, blur, occlusion, mix and bend are probabilities, 0 to 1; got {self}")
        if min(self.shift, self.scale, self.rotate, self.brightness, self.contrast, self.saturation) < 0:
            raise ValueError(f"the largest amounts of augmentation must not be below 0; got {self}")


def augment(image: Image, config: AugmentConfig, rng: np.random.Generator) -> Image:
    """Returns a changed copy of an image, `(H, W, 3)` uint8; lengths in pixels are those of a 112-pixel face."""
    out: Image = _color(_jitter(image, config, rng), config, rng)
    if rng.random() < config.blur:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.3, 1.5)) * image.shape[0] / 112)
    if rng.random() < config.occlusion:
        out = _occlude(out, rng)
    return out


def blend(first: Image, second: Image, rng: np.random.Generator) -> Image:
    """A face between two: `(H, W, 3)` uint8.

    In one half of the cases a weighted mean with three tenths of either at the least; in the other the weights differ
    from place to place, as if it had the eyes of the one and the mouth of the other.
    """
    blended: Image
    if rng.random() < 0.5:
        share = float(rng.uniform(0.3, 0.7))
        blended = cv2.addWeighted(first, share, second, 1 - share, 0)
        return blended
    shares = 1 / (1 + np.exp(-float(rng.uniform(1, 6)) * _smooth(first, 4, 1, rng)))[..., None]
    blended = (shares * first + (1 - shares) * second).astype(np.uint8)
    return blended


def bend(image: Image, rng: np.random.Generator) -> Image:
    """Moves what is in an image, `(H, W, 3)` uint8, smoothly about: another face shape."""
    amount = float(rng.uniform(0, 4)) * image.shape[0] / 112
    moves = amount * _smooth(image, 5, 2, rng)
    rows, columns = np.indices(image.shape[:2], dtype=np.float32)
    bent: Image = cv2.remap(
        image, columns + moves[..., 0], rows + moves[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return bent


def _smooth(image: Image, knots: int, channels: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Standard normal values on a coarse grid, smoothly enlarged to an image's height and width."""
    grid = rng.normal(size=(knots, knots, channels)).astype(np.float32)
    field: NDArray[np.float32] = cv2.resize(grid, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return field


def _jitter(image: Image, config: AugmentConfig, rng: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    angle = float(rng.uniform(-config.rotate, config.rotate))
    scale = 1.0 + float(rng.uniform(-config.scale, config.scale))
    matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), angle, scale)
    matrix[:, 2] += rng.uniform(-config.shift, config.shift, size=2) * (height / 112)
    if rng.random() < config.flip:
        matrix = matrix @ np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    moved: Image = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return moved


def _color(image: Image, config: AugmentConfig, rng: np.random.Generator) -> Image:
    gain = 1.0 + rng.uniform(-config.contrast, config.contrast)
    offset = 255 * rng.uniform(-config.brightness, config.brightness)
    saturation = np.float32(1.0 + rng.uniform(-config.saturation, config.saturation))
    # One 3x4 matrix: mix each colour with the pixel's luma, then gain about mid-grey and offset.
    luma = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    matrix = (saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * luma) * gain
    shift = np.full((3, 1), 128 * (1 - gain) + offset, dtype=np.float32)
    mixed = cv2.transform(image.astype(np.float32), np.hstack([matrix, shift]).astype(np.float32))
    changed: Image = np.clip(mixed, 0, 255).astype(np.uint8)
    return changed


def _occlude(image: Image, rng: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    h, w = (int(rng.uniform(0.1, 0.5) * side) for side in (height, width))
    top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    out = image.copy()
    out[top : top + h, left : left + w] = rng.integers(0, 256)
    return out
