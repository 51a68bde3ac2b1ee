from __future__ import annotations

import numpy as np
import pytest

from slimcam.deploy.inference.interpreter import TensorInfo
from slimcam.deploy.latency.inputs import random_input


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [(np.uint8, 0, 255), (np.int8, -128, 127), (np.float32, -1.0, 127 / 128)]
)
def test_inputs_cover_the_range_of_pixels(dtype: type, low: float, high: float) -> None:
    array = random_input(TensorInfo(0, "image", (1, 64, 64, 3), np.dtype(dtype), 0.0, 0))
    assert (array.shape, array.dtype) == ((1, 64, 64, 3), np.dtype(dtype))
    assert (array.min(), array.max()) == (low, high)


def test_indices_and_flags_are_zero() -> None:
    for dtype in (np.int32, np.int64, np.bool_):
        array = random_input(TensorInfo(0, "tokens", (1, 8), np.dtype(dtype), 0.0, 0))
        assert (array.shape, array.dtype, array.any()) == ((1, 8), np.dtype(dtype), np.False_)


def test_an_input_of_text_is_refused() -> None:
    with pytest.raises(ValueError, match="the model's input words is object"):
        random_input(TensorInfo(0, "words", (1, 8), np.dtype(object), 0.0, 0))
