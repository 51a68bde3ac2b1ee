import cv2
import keras
import numpy as np
import pytest
import tf_keras
from ai_edge_litert.interpreter import Interpreter
from tensorflow_model_optimization.python.core.quantization.keras.quantize_layer import QuantizeLayer
from tensorflow_model_optimization.python.core.quantization.keras.quantizers import FixedQuantizer

from slimcam.compression.errors import ConversionError
from slimcam.compression.export import tflite
from slimcam.compression.export.graph import of_saved_model
from slimcam.compression.normal_form.normalize import normalize
from slimcam.compression.quantization import qat, ranges
from slimcam.compression.quantization.keras2 import to_tf_keras

SIZE = 32


def smooth_images(count: int, seed: int = 0) -> np.ndarray:
    """Low frequencies dominate, as in photographs: `(count, 32, 32, 3)`, pixels as the network takes them."""
    rng = np.random.default_rng(seed)
    images = [
        sum(
            cv2.resize(rng.normal(0, s, (k, k, 3)), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
            for k, s in ((3, 50), (8, 30))
        )
        for _ in range(count)
    ]
    return (np.clip(np.round(np.stack(images)), -128, 127) / 128).astype(np.float32)


def network() -> keras.Model:
    """The parts of ResNet, MobileNetV2 and VGG, and the embedding head."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(16, 3, strides=2, use_bias=False)(layers.ZeroPadding2D(1)(inputs))
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = shortcut = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)))
    x = layers.BatchNormalization()(layers.Conv2D(16, 1, use_bias=False)(x))
    x = layers.Activation("relu")(layers.Add()([x, shortcut]))
    x = layers.Conv2D(16, 3, activation="relu")(x)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False)(x))
    model = keras.Model(inputs, layers.Reshape((8,), name="embedding")(x), name="tiny")
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights(
                [rng.uniform(0.5, 1, shape), *rng.normal(0, 0.2, (2, *shape)), rng.uniform(0.2, 1, shape)]
            )
    return model


def quantized(model: keras.Model) -> tf_keras.Model:
    result = qat.quantize_aware(to_tf_keras(normalize(model, int8=True).model), input_range=qat.PIXEL_RANGE)
    qat.calibrate(result, [smooth_images(16)])
    return result


@pytest.fixture(scope="module")
def converted() -> tuple[tf_keras.Model, bytes]:
    """A quantization-aware model and its file; tests leave the model as it is."""
    model = quantized(network())
    return model, tflite.int8_tflite(model)


def embed(content: bytes, images: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    results = []
    for image in images:
        scale, zero = source["quantization"]
        value = np.round(image / scale + zero).astype(np.int8) if scale else image
        interpreter.set_tensor(source["index"], value[None])
        interpreter.invoke()
        result = interpreter.get_tensor(target["index"])[0]
        scale, zero = target["quantization"]
        results.append((result.astype(np.float32) - zero) * scale if scale else result)
    return np.stack(results)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sum(a * b, axis=-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def is_delegated_throughout(content: bytes) -> bool:
    """Whether one XNNPACK node stands between the model's input and its output."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    delegates = [each for each in interpreter._get_ops_details() if each["op_name"] == "DELEGATE"]
    ends = [interpreter.get_input_details()[0]["index"]], [interpreter.get_output_details()[0]["index"]]
    return len(delegates) == 1 and list(delegates[0]["outputs"]) == ends[1] and ends[0][0] in delegates[0]["inputs"]


def operators(content: bytes) -> set[str]:
    return {each["op_name"] for each in Interpreter(model_content=content)._get_ops_details()}


def requantization_scales(content: bytes) -> np.ndarray:
    interpreter = Interpreter(model_content=content)
    tensors = {each["index"]: each["quantization_parameters"]["scales"] for each in interpreter.get_tensor_details()}
    return np.concatenate(
        [
            tensors[each["inputs"][0]] * tensors[each["inputs"][1]] / tensors[each["outputs"][0]]
            for each in interpreter._get_ops_details()
            if each["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D")
        ]
    )


def test_float_model_computes_the_same_with_batch_norm_folded():
    model = network()
    content = tflite.float_tflite(model)
    images = smooth_images(4, seed=1)
    np.testing.assert_allclose(embed(content, images), model(images).numpy(), atol=1e-4)
    assert operators(content) == {"PAD", "CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "ADD", "MEAN", "RESHAPE"}


def test_int8_model_computes_what_the_quantization_aware_model_does(converted):
    model, content = converted
    images = smooth_images(8, seed=1)
    embeddings = embed(content, images)
    assert cosine(embeddings, model(images).numpy()).min() > 0.999
    assert cosine(embeddings, network()(images).numpy()).min() > 0.99


def test_int8_model_is_folded_and_runs_in_one_delegate(converted):
    _, content = converted
    assert operators(content) == {"PAD", "CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "ADD", "MEAN", "RESHAPE"}
    assert is_delegated_throughout(content)


def test_bias_of_one_number_is_quantized_with_the_scale_of_each_channel():
    inputs = keras.Input((SIZE, SIZE, 3))
    layer = keras.layers.Conv2D(8, 3, bias_initializer=keras.initializers.Constant(0.5))
    model = keras.Model(inputs, layer(inputs))
    layer.kernel.assign(layer.kernel * np.linspace(0.1, 2, 8))
    images = smooth_images(4, seed=1)
    trainable = quantized(model)
    interpreter = Interpreter(model_content=tflite.int8_tflite(trainable))
    interpreter.allocate_tensors()
    (source,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero_point = output["quantization"]
    for image, expected in zip(images, trainable(images).numpy(), strict=True):
        interpreter.set_tensor(source["index"], np.round(image[np.newaxis] * 128).astype(np.int8))
        interpreter.invoke()
        given = (interpreter.get_tensor(output["index"])[0].astype(np.float32) - zero_point) * scale
        np.testing.assert_allclose(given, expected, atol=1.01 * scale)


def test_int8_input_is_pixel_minus_128_of_one_image(converted):
    (source,) = Interpreter(model_content=converted[1]).get_input_details()
    assert source["dtype"] == np.int8
    assert source["quantization"] == (1 / 128, 0)
    assert list(source["shape"]) == [1, SIZE, SIZE, 3]


def test_uneventful_model_is_not_widened():
    model = quantized(network())
    before = model.get_weights()
    ranges.widen(model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def no_gamma(layer: keras.layers.Layer) -> None:
    """What pruning masks and strong weight decay leave: nothing comes through, but beta."""
    if isinstance(layer, keras.layers.BatchNormalization):
        gamma, beta, mean, variance = layer.get_weights()
        gamma[:4], variance[:4] = 0, 1e-12
        layer.set_weights([gamma, beta, mean, variance])


def almost_no_gamma(layer: keras.layers.Layer) -> None:
    if isinstance(layer, keras.layers.BatchNormalization):
        gamma, beta, mean, variance = layer.get_weights()
        gamma[:4], beta[:4] = 1e-12, 1
        layer.set_weights([gamma, beta, mean, variance])


def tiny_variance(layer: keras.layers.Layer) -> None:
    if isinstance(layer, keras.layers.BatchNormalization):
        gamma, beta, mean, variance = layer.get_weights()
        mean[:4], variance[:4] = 0, 1e-20
        layer.set_weights([gamma, beta, mean, variance])


def no_kernel(layer: keras.layers.Layer) -> None:
    if isinstance(layer, keras.layers.Conv2D):
        kernel, *bias = layer.get_weights()
        kernel[..., :4] = 0
        layer.set_weights([kernel, *(np.linspace(-0.5, 0.5, len(value)) for value in bias)])


def dead_layers(layer: keras.layers.Layer) -> None:
    if isinstance(layer, keras.layers.BatchNormalization) and layer.gamma.shape == (16,):
        gamma, beta, mean, variance = layer.get_weights()
        layer.set_weights([0 * gamma, 0 * beta, mean, variance])


@pytest.mark.parametrize("damage", [no_gamma, almost_no_gamma, tiny_variance, no_kernel, dead_layers])
def test_model_with_dead_channels_stays_int8_and_right(damage):
    float_model = network()
    for layer in float_model.layers:
        damage(layer)
    model = quantized(float_model)
    images = smooth_images(4, seed=1)
    before = model(images).numpy()
    content = tflite.int8_tflite(model)
    step = Interpreter(model_content=content).get_output_details()[0]["quantization"][0]
    np.testing.assert_allclose(model(images).numpy(), before, atol=1.01 * step)
    np.testing.assert_allclose(embed(content, images), before, atol=2.01 * step)
    assert is_delegated_throughout(content)


def test_layer_whose_range_has_collapsed_does_not_break_the_runtime():
    model = quantized(network())
    # After long training without a signal, the moving average of a range comes near to zero.
    for layer in model.layers:
        if layer.name.startswith("quant_re_lu"):
            layer._output_quantizer_vars["max_var"].assign(1e-7)
            layer._output_quantizer_vars["min_var"].assign(0.0)
    content = tflite.int8_tflite(model)
    assert requantization_scales(content).max() < 256
    assert is_delegated_throughout(content)


def test_model_that_would_stay_float_in_part_is_refused():
    def fake_quantized(x):
        return QuantizeLayer(FixedQuantizer(8, -1.0, 127 / 128, narrow_range=False))(x)

    inputs = tf_keras.Input((SIZE, SIZE, 3))
    outputs = fake_quantized(tf_keras.layers.ELU()(fake_quantized(inputs)))
    with pytest.raises(ValueError, match="'island' is not int8 throughout"):
        tflite.int8_tflite(tf_keras.Model(inputs, outputs, name="island"))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name_since_the_converter_dies_of_them(number, tmp_path):
    model = network()
    trained = quantized(model)
    for given in (model, trained):
        layer = next(each for each in given.layers if "conv2d" in each.name and each.weights)
        weights = layer.get_weights()
        weights[0].flat[3] = number
        layer.set_weights(weights)
    model.export(tmp_path / "saved", verbose=False)
    for convert, given in (
        (tflite.float_tflite, model),
        (tflite.int8_tflite, trained),
        (tflite.float_tflite, of_saved_model(tmp_path / "saved")),
    ):
        with pytest.raises(ConversionError, match=r"weights '.+/.*kernel.*' are not finite: a training diverged"):
            convert(given)


def test_file_that_the_runtime_refuses_is_not_called_converted(monkeypatch):
    class Refusing(Interpreter):
        def allocate_tensors(self):
            raise RuntimeError("failed to reshape runtime Node number 126\nmore")

    monkeypatch.setattr(tflite, "Interpreter", Refusing)
    with pytest.raises(
        ValueError, match=r"'tiny' is converted, but the TensorFlow Lite runtime refuses .* Node number"
    ):
        tflite.float_tflite(network())


def test_model_of_mixed_precision_is_converted_in_float32():
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(4, 3, dtype="mixed_float16")(inputs)
    model = keras.Model(inputs, keras.layers.Flatten()(keras.layers.GlobalAveragePooling2D(dtype="float16")(x)))
    images = smooth_images(2)
    np.testing.assert_allclose(embed(tflite.float_tflite(model), images), model(images).numpy(), atol=1e-2)
