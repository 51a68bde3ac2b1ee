"""Quantization-aware models with a layer whose weights stay float."""

from __future__ import annotations

import keras
import numpy as np

from slimcam import compression
from slimcam.compression.export.delegation import read_operators
from slimcam.compression.quantization.errors import error_of
from slimcam.compression.quantization.qat import exact
from slimcam.compression.quantization.trained import trained_file
from slimcam.deploy.inference.interpreter import Interpreter

L = keras.layers
IMAGES = np.random.default_rng(1).integers(0, 256, (16, 16, 16, 3)).astype(np.float32) / 128 - 1


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = L.Conv2D(8, 3, use_bias=False, name="stem")(L.ZeroPadding2D(1)(inputs))
    x = short = L.ReLU(name="stem_relu")(L.BatchNormalization(name="stem_norm")(x))
    x = L.MaxPooling2D(2)(L.ReLU()(L.Add(name="add")([L.Conv2D(8, 3, padding="same", name="inner")(x), short])))
    x = L.Conv2D(8, 1, name="embedding_conv")(L.GlobalAveragePooling2D(keepdims=True)(x))
    return keras.Model(inputs, L.Flatten(name="embedding")(x), name="tiny")


def test_file_computes_what_the_model_does_and_the_layer_is_float_in_both() -> None:
    model = network()
    normal = compression.normalize(model, int8=True).model
    trainable = compression.quantize_aware(
        compression.to_tf_keras(normal), input_range=(-1.0, 127 / 128), float_kernels=["stem"]
    )
    compression.calibrate(trainable, [IMAGES], 100.0)
    np.testing.assert_allclose(exact(trainable)(IMAGES), model(IMAGES), atol=1e-5)
    content = trained_file(trainable, {"stem": "float"}, [IMAGES])
    interpreter = Interpreter(content)
    assert (interpreter.input.dtype, interpreter.input.scale) == (np.int8, 1 / 128)
    assert interpreter.delegation().complete
    kinds = [operator.kind for operator in read_operators(content)]
    assert kinds.count("DEQUANTIZE") == kinds.count("QUANTIZE") == 1
    steps = np.round(IMAGES * 128).astype(np.int8)
    found = np.stack([interpreter.run(image[np.newaxis])[0] for image in steps]).astype(np.float32)
    output = interpreter.output
    error = error_of((found - output.zero_point) * output.scale, np.asarray(trainable(IMAGES)))
    assert error is not None
    assert error.sqnr_db > 35
