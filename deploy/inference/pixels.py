"""The conventions in which networks read pixels, by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.choices import Choice
from slimcam.deploy.inference.bundle import InputSpec


class PixelFormat(Choice):
    """What a network reads of a pixel of 0 to 255.

    `minus_one_one` reads -1 to 1, `zero_one` 0 to 1, `raw` the pixel itself. `caffe` and `torch` are Keras' names for
    what networks were trained on ImageNet with: BGR less the mean color, and RGB less the mean over the deviation.
    """

    MINUS_ONE_ONE = "minus_one_one"
    ZERO_ONE = "zero_one"
    CAFFE = "caffe"
    TORCH = "torch"
    RAW = "raw"


# Of 128, not 127.5 as Keras has it: so the int8 image of a quantized model is exactly `pixel - 128`. The difference is
# half a step of a pixel. Figures of `caffe` and `torch`: keras.applications.imagenet_utils.
CONVENTIONS = {
    PixelFormat.MINUS_ONE_ONE: InputSpec(),
    PixelFormat.ZERO_ONE: InputSpec(mean=0.0, scale=255.0),
    PixelFormat.CAFFE: InputSpec(mean=(123.68, 116.779, 103.939), scale=1.0, order="bgr"),
    PixelFormat.TORCH: InputSpec(
        mean=(0.485 * 255, 0.456 * 255, 0.406 * 255), scale=(0.229 * 255, 0.224 * 255, 0.225 * 255)
    ),
    PixelFormat.RAW: InputSpec(mean=0.0, scale=1.0),
}


def input_spec(pixels: str, height: int, width: int) -> InputSpec:
    """The input of a model that reads pixels in a convention."""
    return replace(CONVENTIONS[PixelFormat(pixels)], height=height, width=width)


def normalized(images: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """What a float model reads of RGB images, `(..., 3)`."""
    mean: NDArray[np.float32] = np.asarray(spec.mean, np.float32)
    scale: NDArray[np.float32] = np.asarray(spec.scale, np.float32)
    values: NDArray[np.float32] = (images.astype(np.float32) - mean) / scale
    return np.ascontiguousarray(values[..., ::-1]) if spec.order == "bgr" else values


def value_range(spec: InputSpec) -> tuple[float, float]:
    """The smallest and the largest value that a model reads."""
    low, high = ((pixel - np.asarray(spec.mean)) / np.asarray(spec.scale) for pixel in (0.0, 255.0))
    return float(np.min(low)), float(np.max(high))
