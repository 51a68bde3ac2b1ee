"""What pixels become before a model reads them, and what its outputs stand for."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.vectors import unit_length
from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.interpreter import TensorInfo

_SHIFTED = np.arange(-128, 128).astype(np.int8)
"""The table of models whose int8 input is `pixel - 128`, as ours are."""


def input_table(spec: InputSpec, tensor: TensorInfo) -> NDArray[Any]:
    """What each of the 256 pixel values becomes in the input tensor: normalized, and quantized if the tensor is.

    `(256,)`, or `(256, 3)` where red, green and blue are normalized differently. Rounds half away from zero, as
    TFLite's QUANTIZE does.

    Raises:
        ValueError: the tensor is neither float32 nor quantized int8 or uint8.
    """
    pixels = np.arange(256, dtype=np.float64)
    if isinstance(spec.mean, tuple) or isinstance(spec.scale, tuple):
        pixels = pixels[:, None]
    values = (pixels - spec.mean) / spec.scale
    if tensor.dtype == np.float32:
        return values.astype(np.float32)
    if tensor.dtype not in (np.int8, np.uint8) or tensor.scale <= 0:
        raise ValueError(f"the model's input must be float32, or int8 or uint8 with a scale; it is {tensor.dtype}")
    scaled = values / tensor.scale
    rounded = np.copysign(np.floor(np.abs(scaled) + 0.5), scaled) + tensor.zero_point
    limits = np.iinfo(tensor.dtype)
    table: NDArray[Any] = np.clip(rounded, limits.min, limits.max).astype(tensor.dtype)
    return table


def look_up(table: NDArray[Any], image: NDArray[np.uint8], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """What `input_table` makes of each pixel of an image, `table[image]`.

    Args:
        out: Array for the result, of the image's shape and the table's type.
    """
    if table.dtype == np.int8 and np.array_equal(table, _SHIFTED):
        # `pixel - 128` is the flip of a bit, a tenth of the time of looking up.
        flipped = np.bitwise_xor(image, np.uint8(128), out=None if out is None else out.view(np.uint8))
        shifted: NDArray[Any] = flipped.view(np.int8)
        return shifted
    # Ten times faster than numpy's indexing.
    values: NDArray[Any] = cv2.LUT(image, table if table.ndim == 1 else table[np.newaxis], dst=out)
    return values


def resized(
    image: NDArray[np.uint8], height: int, width: int, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """An image `(h, w, 3)` at another size: pixels are averaged where it shrinks, interpolated where it grows.

    Args:
        out: Array for the result; without one, an image that has this size already is returned itself.
    """
    if image.shape[:2] == (height, width):
        if out is None:
            return image
        out[...] = image
        return out
    smaller = height * width < image.shape[0] * image.shape[1]
    result: NDArray[np.uint8] = cv2.resize(
        image, (width, height), dst=out, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    )
    return result


def middle_square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest square in the middle of an image `(h, w, 3)`."""
    return middle(image, 1, 1)


def middle(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The largest part in the middle of an image `(h, w, 3)` whose sides are as `height` to `width`."""
    side = min(image.shape[0] / height, image.shape[1] / width)
    tall, wide = max(1, round(side * height)), max(1, round(side * width))
    top, left = (image.shape[0] - tall) // 2, (image.shape[1] - wide) // 2
    return image[top : top + tall, left : left + wide]


def agreement(found: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float32]:
    """How alike two lists of outputs, `(N, ...)`, are: the cosine of each pair, `(N,)`."""
    count = len(found)
    pairs = (unit_length(outputs.reshape(count, -1)) for outputs in (found, expected))
    return np.asarray(np.einsum("ne,ne->n", *pairs), dtype=np.float32)


def quantized(values: NDArray[np.float32], tensor: TensorInfo) -> NDArray[Any]:
    """What a tensor holds for real numbers: the nearest that it can, where it is quantized."""
    if tensor.scale == 0 or not np.issubdtype(tensor.dtype, np.integer):
        return values.astype(tensor.dtype)
    limits = np.iinfo(tensor.dtype)
    steps = np.round(values / np.float32(tensor.scale)) + tensor.zero_point
    found: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(tensor.dtype)
    return found


def dequantized(values: NDArray[Any], tensor: TensorInfo) -> NDArray[np.float32]:
    """The real numbers that a tensor's values stand for."""
    if tensor.scale == 0 or not np.issubdtype(tensor.dtype, np.integer):
        return values.astype(np.float32)
    real: NDArray[np.float32] = values.astype(np.float32)
    real -= tensor.zero_point
    real *= np.float32(tensor.scale)
    return real
