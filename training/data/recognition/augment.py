"""Augmentation: random changes of training images, by a generator that the caller seeds."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.result_key import in_key
from slimcam.training.data.images import Image


@dataclass
class AugmentConfig:
    """Augmentation of a training image; each option is a largest amount or a probability.

    Mixup and elastic deformation make a face that is nobody's: they are for distillation from a teacher that sees the
    same view. A classification loss skips such a face.

    Attributes:
        flip: Probability of the mirror image.
        shift: Largest shift along each axis, pixels of a 112-pixel face.
        scale: Largest relative change of size.
        rotate: Largest angle, degrees. With shift and scale the crop jitter of an imperfect alignment.
        brightness: Largest relative change of brightness.
        contrast: Largest relative change of contrast.
        saturation: Largest relative change of saturation.
        blur: Probability of a Gaussian blur of up to 1.5 pixels.
        erase: Probability of random erasing (Zhong et al. 2020): a gray rectangle over up to a quarter of the face.
        mixup: Probability of mixing with another face: with one weight (Zhang et al. 2018, "mixup"), or, as often, with
            a smooth random mask (after Harris et al. 2020, "FMix").
        elastic: Probability of an elastic deformation (Simard et al. 2003) by up to a few pixels.
    """

    flip: float = 0.5
    shift: float = 4.0
    scale: float = 0.06
    rotate: float = 4.0
    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.25
    blur: float = 0.1
    erase: float = field(default=0.1, metadata=in_key(name="occlusion"))
    mixup: float = field(default=0.0, metadata=in_key(name="mix"))
    elastic: float = field(default=0.0, metadata=in_key(name="bend"))

    def __post_init__(self) -> None:
        if not all(0 <= chance <= 1 for chance in (self.flip, self.blur, self.erase, self.mixup, self.elastic)):
            raise ValueError(f"flip, blur, erase, mixup and elastic are probabilities, 0 to 1; got {self}")
        if min(self.shift, self.scale, self.rotate, self.brightness, self.contrast, self.saturation) < 0:
            raise ValueError(f"the largest amounts of augmentation must not be below 0; got {self}")


def augment(image: Image, config: AugmentConfig, rng: np.random.Generator) -> Image:
    """Returns a changed copy of an image, `(H, W, 3)` uint8; lengths in pixels are those of a 112-pixel face."""
    out: Image = _color(_jitter(image, config, rng), config, rng)
    if rng.random() < config.blur:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.3, 1.5)) * image.shape[0] / 112)
    if rng.random() < config.erase:
        out = _erase(out, rng)
    return out


def mixup(first: Image, second: Image, rng: np.random.Generator) -> Image:
    """Mixes two faces, `(H, W, 3)` uint8.

    In one half of the cases with one weight for all pixels, from 0.3 to 0.7 (mixup); in the other with a smooth random
    mask (FMix), which may take the eyes from the one and the mouth from the other.
    """
    mixed: Image
    if rng.random() < 0.5:
        weight = float(rng.uniform(0.3, 0.7))
        mixed = cv2.addWeighted(first, weight, second, 1 - weight, 0)
        return mixed
    mask = 1 / (1 + np.exp(-float(rng.uniform(1, 6)) * _smooth(first, 4, 1, rng)))[..., None]
    mixed = (mask * first + (1 - mask) * second).astype(np.uint8)
    return mixed


def deform(image: Image, rng: np.random.Generator) -> Image:
    """Elastic deformation of an image, `(H, W, 3)` uint8: another face shape."""
    amount = float(rng.uniform(0, 4)) * image.shape[0] / 112
    moves = amount * _smooth(image, 5, 2, rng)
    rows, columns = np.indices(image.shape[:2], dtype=np.float32)
    deformed: Image = cv2.remap(
        image, columns + moves[..., 0], rows + moves[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return deformed


def _smooth(image: Image, knots: int, channels: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Standard normal values on a coarse grid, smoothly enlarged to an image's height and width."""
    grid = rng.normal(size=(knots, knots, channels)).astype(np.float32)
    values: NDArray[np.float32] = cv2.resize(grid, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return values


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
    # One 3x4 matrix: mix each color with the pixel's luma, then gain about mid-gray and offset.
    luma = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    matrix = (saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * luma) * gain
    shift = np.full((3, 1), 128 * (1 - gain) + offset, dtype=np.float32)
    mixed = cv2.transform(image.astype(np.float32), np.hstack([matrix, shift]).astype(np.float32))
    changed: Image = np.clip(mixed, 0, 255).astype(np.uint8)
    return changed


def _erase(image: Image, rng: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    h, w = (int(rng.uniform(0.1, 0.5) * side) for side in (height, width))
    top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    out = image.copy()
    out[top : top + h, left : left + w] = rng.integers(0, 256)
    return out
