from __future__ import annotations

import numpy as np
import pytest

from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.interpreter import TensorInfo
from slimcam.deploy.inference.preprocessing import input_table, look_up, middle, middle_square


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


@pytest.mark.parametrize(
    ("spec", "dtype", "scale"),
    [
        (InputSpec(), np.int8, 1 / 128),
        (InputSpec(mean=3.0), np.int8, 1 / 64),
        (InputSpec(), np.float32, 0.0),
        (InputSpec(mean=(1.0, 2.0, 3.0)), np.float32, 0.0),
    ],
)
def test_values_of_pixels_are_written_where_they_are_wanted(spec: InputSpec, dtype: type, scale: float) -> None:
    table = input_table(spec, tensor(dtype, scale, 0))
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    out = np.empty(image.shape, dtype)
    look_up(table, image, out)
    expected = (
        table[image] if table.ndim == 1 else np.take_along_axis(table, image.reshape(-1, 3), 0).reshape(image.shape)
    )
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(look_up(table, image), expected)


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(16, 24, (1, 28), (0, 40)), (10, 5, (0, 30), (12, 27)), (3, 4, (0, 30), (0, 40))],
)
def test_the_middle_of_an_image_has_the_sides_of_the_input(
    height: int, width: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    image = np.arange(30 * 40 * 3).reshape(30, 40, 3).astype(np.uint8)
    wanted = image[slice(*rows), slice(*columns)]
    assert middle(image, height, width).shape == wanted.shape
    assert (middle(image, height, width) == wanted).all()
    assert middle_square(image).shape == (30, 30, 3)
