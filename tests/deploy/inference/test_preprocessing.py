from __future__ import annotations

import numpy as np
import pytest

from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.interpreter import TensorInfo
from slimcam.deploy.inference.preprocessing import input_table


def tensor(dtype: type, scale: float, zero_point: int) -> TensorInfo:
    return TensorInfo(0, "image", (1, 32, 32, 3), np.dtype(dtype), scale, zero_point)


def test_pixels_enter_a_unit_scaled_int8_model_as_pixel_minus_128() -> None:
    table = input_table(InputSpec(), tensor(np.int8, 1 / 128, 0))
    assert np.array_equal(table, np.arange(256) - 128)
    assert table.dtype == np.int8


def test_quantization_rounds_half_away_from_zero_and_saturates() -> None:
    table = input_table(InputSpec(mean=0.0, scale=1.0), tensor(np.int8, 2.0, -10))
    assert [table[0], table[1], table[3], table[255]] == [-10, -9, -8, 118]
    below = input_table(InputSpec(mean=3.0, scale=1.0), tensor(np.int8, 2.0, 0))
    assert [below[0], below[2]] == [-2, -1]
    assert input_table(InputSpec(mean=0.0, scale=1.0), tensor(np.uint8, 0.5, 0))[200] == 255


def test_a_float_model_gets_normalized_pixels() -> None:
    table = input_table(InputSpec(mean=127.5, scale=127.5), tensor(np.float32, 0.0, 0))
    assert table[[0, 255]].tolist() == [-1.0, 1.0]


def test_an_input_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="it is int64"):
        input_table(InputSpec(), tensor(np.int64, 0.0, 0))
