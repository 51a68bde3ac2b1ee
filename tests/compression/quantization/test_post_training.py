"""Float files quantized without training, by every scheme; single layers otherwise; the fewest that stay float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

from slimcam import compression
from slimcam.compression.export.delegation import layers_of, read_operators
from slimcam.compression.quantization.errors import error_of
from slimcam.compression.quantization.mixed import fewest, operator_errors
from slimcam.compression.quantization.post_training import exceptions, observed_ranges, quantized
from slimcam.compression.quantization.schemes import Scheme
from slimcam.deploy.inference.interpreter import Interpreter

L = keras.layers
IMAGES = np.random.default_rng(1).uniform(-1, 127 / 128, (16, 16, 16, 3)).astype(np.float32)
UNTRAINED = [scheme for scheme in Scheme if not scheme.facts.trains and scheme is not Scheme.NONE]


@dataclass(frozen=True)
class Float:
    """A float file, and what of it is needed to quantize it."""

    content: bytes
    ranges: Mapping[str, tuple[float, float]]
    origins: Mapping[str, str]


def network(*odd: Any) -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = short = L.ReLU(name="stem_relu")(L.BatchNormalization()(L.Conv2D(16, 3, strides=2, name="stem")(inputs)))
    for layer in odd:
        x = layer(x)
    x = L.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    x = L.Add(name="add")([L.Conv2D(16, 1, name="pointwise")(x), short])
    x = L.Conv2D(8, 1, name="embedding_conv")(L.GlobalAveragePooling2D(keepdims=True)(x))
    return keras.Model(inputs, L.Flatten(name="embedding")(x), name="tiny")


def converted(model: Any) -> Float:
    form = compression.normalize(model, int8=True)
    content = compression.float_tflite(form.model)
    return Float(content, observed_ranges(content, [IMAGES], input_range=(-1.0, 127 / 128)), form.origins)


@pytest.fixture(scope="module")
def exact() -> Float:
    return converted(network())


def run(content: bytes) -> Any:
    interpreter = Interpreter(content)
    source, target = interpreter.input, interpreter.output
    images = IMAGES
    if source.scale:
        images = np.clip(np.round(IMAGES / source.scale + source.zero_point), -128, 127).astype(source.dtype)
    found = np.stack([interpreter.run(image[np.newaxis])[0] for image in images]).astype(np.float32)
    return (found - target.zero_point) * target.scale if target.scale else found


@pytest.mark.parametrize("scheme", UNTRAINED)
def test_every_scheme_computes_nearly_what_the_float_file_does_and_is_smaller(exact: Float, scheme: Scheme) -> None:
    content = quantized(exact.content, scheme, exact.ranges)
    error = error_of(run(content), run(exact.content))
    assert error is not None
    assert error.sqnr_db > (10 if scheme is Scheme.WEIGHTS_INT4 else 25)
    assert Interpreter(content).delegation().complete or not scheme.facts.delegated


def test_int8_file_takes_pixels_as_they_are(exact: Float) -> None:
    interpreter = Interpreter(quantized(exact.content, Scheme.PTQ_INT8, exact.ranges))
    assert (interpreter.input.dtype, interpreter.input.scale, interpreter.input.zero_point) == (np.int8, 1 / 128, 0)
    assert interpreter.output.dtype == np.int8


def test_a_layer_stays_float_where_its_policy_says_so(exact: Float) -> None:
    policies = exceptions(exact.content, {"pointwise": "float", "depthwise": "int8 weights"}, exact.origins)
    assert len(policies) == 2
    content = quantized(exact.content, Scheme.PTQ_INT8, exact.ranges, policies)
    floats = [
        operator.kind
        for operator in read_operators(content)
        if operator.kind not in ("QUANTIZE", "DEQUANTIZE") and not operator.inputs[0].scale.size
    ]
    assert floats == ["DEPTHWISE_CONV_2D", "CONV_2D"]


def test_network_without_an_int8_form_is_quantized_but_for_what_has_none() -> None:
    odd = converted(network(L.LayerNormalization(name="norm"), L.Activation("gelu", name="smooth")))
    content = quantized(odd.content, Scheme.PTQ_INT8, odd.ranges)
    error = error_of(run(content), run(odd.content))
    assert error is not None
    assert error.sqnr_db > 20
    assert Interpreter(content).input.dtype == np.int8


def test_integers_need_ranges_and_ranges_images(exact: Float) -> None:
    with pytest.raises(ValueError, match="ptq_int8 needs ranges of activations"):
        quantized(exact.content, Scheme.PTQ_INT8)
    with pytest.raises(ValueError, match="needs images to take ranges from"):
        observed_ranges(exact.content, [])
    with pytest.raises(ValueError, match="qat_int8 is not a scheme of quantization after training"):
        quantized(exact.content, Scheme.QAT_INT8, exact.ranges)


def test_an_outlier_image_does_not_widen_a_range(exact: Float) -> None:
    images = np.concatenate([IMAGES, IMAGES, 50 * IMAGES[:1]])
    clipped, whole = (observed_ranges(exact.content, [images], percentile) for percentile in (95.0, 100.0))
    assert all(whole[name][1] > 10 * clipped[name][1] for name in whole if clipped[name][1] > 0.1)


def test_operators_that_touch_a_range_too_wide_have_the_largest_errors(exact: Float) -> None:
    ranges = dict(exact.ranges)
    (wide,) = [name for name in ranges if layers_of(name, exact.origins)[-1:] == ["pointwise"]]
    ranges[wide] = (100 * ranges[wide][0], 100 * ranges[wide][1])
    errors = operator_errors(exact.content, ranges, IMAGES[:4])
    worst = sorted(errors, key=lambda name: errors[name].sqnr_db)[:2]
    assert {layers_of(name, exact.origins)[-1] for name in worst} == {"pointwise", "add"}


@pytest.mark.parametrize("needed", [0, 1, 3, 5])
def test_the_fewest_that_suffice_are_found(needed: int) -> None:
    assert fewest("abcde", lambda kept: len(kept) >= needed) == "abcde"[:needed]
