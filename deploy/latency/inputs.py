"""What a model is fed while it is timed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.inference.interpreter import TensorInfo


def random_input(tensor: TensorInfo, seed: int = 0) -> NDArray[Any]:
    """Random pixels in the tensor's own type: uint8, int8 (pixel - 128), or a float, (pixel - 128) / 128.

    Other integers, which are indices, and flags are 0: that one there always is.

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
    if tensor.dtype == np.bool_ or np.issubdtype(tensor.dtype, np.integer):
        return np.zeros(tensor.shape, tensor.dtype)
    raise ValueError(f"the model's input {tensor.name} is {tensor.dtype}; only numbers and flags can be timed")
