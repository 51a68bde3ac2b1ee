"""What networks read of a pixel: the same on the device as in training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.interpreter import TensorInfo
from slimcam.deploy.inference.model import Model
from slimcam.deploy.inference.pixels import CONVENTIONS, PixelFormat, input_spec, normalized, value_range
from slimcam.deploy.inference.preprocessing import input_table, look_up

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize("pixels", PixelFormat)
def test_a_device_feeds_a_float_model_as_training_does(pixels: PixelFormat, float_model: bytes) -> None:
    spec = input_spec(pixels, 32, 32)
    model = Model(float_model, spec)
    (expected,) = model.interpreter.run(normalized(IMAGE, spec)[np.newaxis])
    np.testing.assert_allclose(model.output(IMAGE), expected[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pixels", [PixelFormat.MINUS_ONE_ONE, PixelFormat.ZERO_ONE, PixelFormat.RAW])
def test_the_int8_image_of_such_pixels_loses_nothing(pixels: PixelFormat) -> None:
    low, high = value_range(CONVENTIONS[pixels])
    scale = (high - low) / 255
    tensor = TensorInfo(0, "image", (1, 32, 32, 3), np.dtype(np.int8), scale, round(-128 - low / scale))
    np.testing.assert_array_equal(input_table(CONVENTIONS[pixels], tensor), np.arange(-128, 128))


def test_colors_with_means_of_their_own_have_tables_of_their_own() -> None:
    tensor = TensorInfo(0, "image", (1, 32, 32, 3), np.dtype(np.float32), 0.0, 0)
    table = input_table(CONVENTIONS[PixelFormat.TORCH], tensor)
    assert table.shape == (256, 3)
    np.testing.assert_allclose(look_up(table, IMAGE), normalized(IMAGE, CONVENTIONS[PixelFormat.TORCH]), rtol=1e-5)


def test_an_input_survives_its_bundle(make_bundle: object) -> None:
    spec = input_spec(PixelFormat.CAFFE, 32, 32)
    assert make_bundle(input=spec).image == spec  # type: ignore[operator]


def test_an_input_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="one for each of three channels"):
        InputSpec(mean=(1.0, 2.0))
    with pytest.raises(ValueError, match="scale above 0"):
        replace(CONVENTIONS[PixelFormat.TORCH], scale=(1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="rgb or bgr"):
        InputSpec(order="gbr")
