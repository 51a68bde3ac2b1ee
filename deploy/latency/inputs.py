"""What a model is fed while it is timed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.inference.interpreter import TensorInfo


def random_input(tensor: TensorInfo, seed: int = 0) -> NDArray[Any]:
    """Random pixels in the tensor's own type: uint8, int8 (pixel - 128), or a float, (pixel - 128) / 128.

    Raises:
        ValueError: the tensor is of another type.
    """
    pixels = np.random.default_rng(seed).integers(0, 256, tensor.shape)
    if tensor.dtype == np.uint8:
        return pixels.astype(np.uint8)
    if tensor.dtype == np.int8:
        return (pixels - 128).astype(np.int8)
    if np.issubdtype(tensor.dtype, np.floating):
        return ((pixels - 128) / 128).astype(tensor.dtype)
    raise ValueError(f"the model's input is {tensor.dtype}; only uint8, int8 and float inputs can be timed")
