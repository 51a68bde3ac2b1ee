"""Networks of every kind become int8 files that compute what their quantization-aware model does, whole in XNNPACK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

from slimcam import compression
from slimcam.compression.quantization import qat
from slimcam.deploy.inference.interpreter import Interpreter

L = keras.layers
SHAPE = (12, 12, 6)
IMAGES = np.random.default_rng(1).uniform(-3, 3, (8, *SHAPE)).astype(np.float32)


def quantized(layers: Callable[[Any], Any]) -> tuple[Any, tf_keras.Model]:
    """A model, and its calibrated quantization-aware form."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, layers(inputs))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, each.shape) for each in layer.weights])
    normal = compression.normalize(model, int8=True).model
    trainable = compression.quantize_aware(compression.to_tf_keras(normal))
    compression.calibrate(trainable, [IMAGES])
    return model, trainable


def run(interpreter: Interpreter, images: Any) -> Any:
    source, target = interpreter.input, interpreter.output
    steps = np.clip(np.round(images / source.scale + source.zero_point), -128, 127).astype(np.int8)
    found = [interpreter.run(image[np.newaxis])[0][0].astype(np.float32) for image in steps]
    return (np.stack(found) - target.zero_point) * target.scale


def sqnr(exact: Any, given: Any) -> float:
    return float(10 * np.log10(np.mean(np.square(exact)) / np.mean(np.square(np.asarray(given) - np.asarray(exact)))))


def conv(x: Any, filters: int = 8) -> Any:
    return L.Conv2D(filters, 3, padding="same")(x)


def pre_activation(x: Any) -> Any:
    x = conv(x)
    return L.Add()([conv(L.ReLU()(L.BatchNormalization()(x))), x])


def inception(x: Any) -> Any:
    x = L.MaxPooling2D(2)(L.ReLU()(L.BatchNormalization()(conv(x))))
    y = L.Concatenate()([L.ReLU()(conv(x)), L.AveragePooling2D(3, 1, padding="same")(x), x])
    return L.Concatenate()([y, L.MaxPooling2D(3, 1, padding="same")(y)])


def gated(x: Any) -> Any:
    y = L.Dense(6, "sigmoid")(L.Dense(4, "silu")(L.GlobalAveragePooling2D()(x)))
    return L.Activation("hard_silu")(conv(L.Multiply()([x, L.Reshape((1, 1, 6))(y)])))


NETWORKS: dict[str, Callable[[Any], Any]] = {
    "pre-activation": pre_activation,
    "inception": inception,
    "gated": gated,
    "separable beside conv2d": lambda x: L.SeparableConv2D(8, 3, name="separable")(L.Conv2D(8, 1, name="conv2d")(x)),
    "depth multiplier": lambda x: L.ReLU()(L.BatchNormalization()(L.DepthwiseConv2D(3, depth_multiplier=2)(x))),
    "extremes": lambda x: L.Subtract()([L.Maximum()([x, conv(x, 6)]), L.Minimum()([x, x * 0.2])]),
    "prelu": lambda x: L.PReLU(shared_axes=[1, 2], alpha_initializer="ones")(conv(x)) + x[..., :1] * 0.2,
    "upsampled": lambda x: L.Conv2DTranspose(5, 2, strides=2)(L.UpSampling2D(2)(L.MaxPooling2D(1, strides=2)(x))),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_int8_file_is_delegated_whole_and_computes_what_its_model_does(network: Callable[[Any], Any]) -> None:
    model, trainable = quantized(network)
    interpreter = Interpreter(compression.int8_tflite(trainable))
    assert interpreter.delegation().complete
    given, expected = run(interpreter, IMAGES), trainable(IMAGES, training=False).numpy()
    assert np.abs(given - expected).max() <= 3.01 * interpreter.output.scale
    assert sqnr(model(IMAGES, training=False), given) > 24


def test_depthwise_kernels_have_a_scale_for_each_channel() -> None:
    def spread(x: Any) -> Any:
        layer = L.DepthwiseConv2D(3, use_bias=False)
        y = layer(x)
        layer.set_weights([layer.get_weights()[0] * np.float32(10.0) ** np.arange(-3, 3).reshape(1, 1, 6, 1)])
        return L.BatchNormalization()(y)

    _, trainable = quantized(spread)
    (wrapper,) = [layer for layer in trainable.layers if layer.name.startswith("quant_depthwise")]
    ((_, _, limits),) = wrapper._weight_vars
    assert limits["max_var"].shape == (6,)
    errors = compression.layer_sqnr(trainable, IMAGES)
    assert min(errors.values()) > 30


def test_range_of_the_input_is_observed_unless_it_is_given() -> None:
    _, trainable = quantized(conv)
    interpreter = Interpreter(compression.int8_tflite(trainable))
    assert interpreter.input.scale == pytest.approx(6 / 255, rel=0.02)


def test_frozen_layers_stay_as_they_are_in_training_and_in_the_file(tmp_path: Any) -> None:
    _, trainable = quantized(lambda x: L.Dropout(0.5)(L.AveragePooling2D(2)(conv(x))))
    assert len(trainable.trainable_weights) == 2
    assert np.any(trainable(IMAGES, training=True).numpy() != trainable(IMAGES, training=False).numpy())
    qat.save(trainable, tmp_path / "model.h5")
    loaded = qat.load(tmp_path / "model.h5")
    assert len(loaded.trainable_weights) == 2
    np.testing.assert_array_equal(loaded(IMAGES).numpy(), trainable(IMAGES).numpy())
