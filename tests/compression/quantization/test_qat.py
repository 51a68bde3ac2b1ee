import numpy as np
import pytest
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import QuantizeWrapper

from slimcam.compression.quantization import qat
from slimcam.compression.quantization.errors import layer_errors

LAYERS = tf_keras.layers


def tiny_network() -> tf_keras.Model:
    tf_keras.utils.set_random_seed(0)
    inputs = LAYERS.Input((16, 16, 3))
    x = LAYERS.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(inputs)
    x = shortcut = LAYERS.Activation("relu")(LAYERS.BatchNormalization(name="bn")(x))
    x = LAYERS.BatchNormalization()(LAYERS.Conv2D(8, 3, padding="same", use_bias=False)(x))
    x = LAYERS.Activation("relu")(LAYERS.Add(name="sum")([x, shortcut]))
    x = LAYERS.GlobalAveragePooling2D(keepdims=True)(x)
    x = LAYERS.BatchNormalization(name="embedding_bn")(LAYERS.Conv2D(4, 1, use_bias=False)(x))
    model = tf_keras.Model(inputs, LAYERS.Reshape((4,), name="embedding")(x))
    # Statistics as after training: ranges calibrated on others would clip what training mode computes.
    norms = [layer for layer in model.layers if isinstance(layer, LAYERS.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
    model(noise(), training=True)
    for layer in norms:
        layer.momentum = 0.99
    return model


def noise() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 127 / 128, (32, 16, 16, 3)).astype(np.float32)


@pytest.fixture
def images() -> np.ndarray:
    return noise()


@pytest.fixture
def quantized(images: np.ndarray) -> tf_keras.Model:
    model = qat.quantize_aware(tiny_network(), input_range=qat.PIXEL_RANGE)
    qat.calibrate(model, [images[:16], images[16:]])
    return model


def norm_weights(model: tf_keras.Model) -> list[np.ndarray]:
    return model.get_layer("quant_bn").layer.get_weights()


def test_calibrated_model_computes_nearly_what_the_float_model_does(quantized, images):
    expected = tiny_network()(images).numpy()
    error = np.abs(quantized(images).numpy() - expected).mean()
    assert error < 0.15 * np.abs(expected).mean()


def output_range(model: tf_keras.Model, name: str) -> tuple[float, float]:
    limits = model.get_layer(f"quant_{name}")._output_quantizer_vars
    return float(limits["min_var"]), float(limits["max_var"])


@pytest.mark.parametrize("outlier", [[7, -1], [2, -7]])
def test_one_outlier_image_in_thirty_does_not_widen_a_range(outlier):
    inputs = LAYERS.Input((2,))
    sums = LAYERS.Add(name="sum")([inputs, inputs])
    model = qat.quantize_aware(tf_keras.Model(inputs, sums), input_range=(-8.0, 8.0))
    usual = np.tile(np.float32([[2, -1]]), (29, 1))
    qat.calibrate(model, [usual, np.float32([outlier])])
    assert output_range(model, "sum") == (pytest.approx(-2, rel=0.05), pytest.approx(4, rel=0.05))


def test_an_activation_of_one_image_in_thirty_has_a_range():
    inputs = LAYERS.Input((2,))
    model = qat.quantize_aware(tf_keras.Model(inputs, LAYERS.ReLU(name="relu")(inputs)), input_range=(-8.0, 8.0))
    silent = np.tile(np.float32([[-2, -1]]), (29, 1))
    qat.calibrate(model, [silent, np.float32([[7, -1]])])
    assert output_range(model, "relu") == (0, pytest.approx(7, rel=0.05))


def test_ranges_move_again_after_an_error_within_fixed_ranges(quantized):
    found = [wrapper._output_quantizers for wrapper in quantized.layers if isinstance(wrapper, QuantizeWrapper)]
    with pytest.raises(KeyboardInterrupt), qat.fixed_ranges(quantized):
        raise KeyboardInterrupt
    assert found == [layer._output_quantizers for layer in quantized.layers if isinstance(layer, QuantizeWrapper)]


def test_fixed_ranges_stay_while_the_weights_train(quantized, images):
    def activations() -> list[np.ndarray]:
        return [
            weight.numpy() for weight in quantized.weights if "activation" in weight.name or "output" in weight.name
        ]

    qat.freeze_batch_norm(quantized)
    before, kernel = activations(), quantized.get_layer("quant_conv").trainable_weights[0].numpy()
    targets = np.random.default_rng(1).normal(size=(32, 4)).astype(np.float32)
    with qat.fixed_ranges(quantized):
        quantized.compile(tf_keras.optimizers.SGD(1e-4), "mse")
        quantized.train_on_batch(4 * images, targets)
    assert len(before) > 4
    for kept, value in zip(before, activations(), strict=True):
        np.testing.assert_array_equal(kept, value)
    assert np.any(quantized.get_layer("quant_conv").trainable_weights[0].numpy() != kernel)
    quantized.compile(tf_keras.optimizers.SGD(1e-4), "mse")
    quantized.train_on_batch(4 * images, targets)
    assert any(np.any(kept != value) for kept, value in zip(before, activations(), strict=True))


def test_only_fused_results_are_quantized(quantized):
    quantizing = [
        layer.layer.name
        for layer in quantized.layers
        if isinstance(layer, QuantizeWrapper) and layer._output_quantizers
    ]
    assert "bn" not in quantizing
    assert "sum" not in quantizing
    assert "embedding_bn" in quantizing


def test_pixels_pass_the_input_quantizer_exactly():
    inputs = LAYERS.Input((2, 128, 1))
    model = qat.quantize_aware(tf_keras.Model(inputs, LAYERS.Reshape((256,))(inputs)), input_range=qat.PIXEL_RANGE)
    pixels = (np.arange(256, dtype=np.float32).reshape(1, 2, 128, 1) - 128) / 128
    np.testing.assert_array_equal(model(pixels).numpy().ravel(), pixels.ravel())


def test_input_range_that_leaves_out_zero_is_refused():
    with pytest.raises(ValueError, match="input_range must span zero"):
        qat.quantize_aware(tiny_network(), input_range=(0.5, 1.0))


def test_every_layer_that_cannot_be_quantized_is_named():
    inputs = LAYERS.Input((4,))
    outputs = LAYERS.BatchNormalization(name="alone")(LAYERS.ELU(name="odd")(inputs))
    with pytest.raises(ValueError, match=r"no int8 form for odd \(ELU\), alone \(BatchNormalization"):
        qat.quantize_aware(tf_keras.Model(inputs, outputs))


def test_calibration_without_batches_is_refused():
    with pytest.raises(ValueError, match="at least one batch"):
        qat.calibrate(qat.quantize_aware(tiny_network()), [])


def test_training_moves_batch_norm_unless_it_is_frozen(quantized, images):
    targets = np.random.default_rng(1).normal(size=(32, 4)).astype(np.float32)
    before = norm_weights(quantized)
    quantized.compile(tf_keras.optimizers.SGD(1e-4), "mse")
    quantized.train_on_batch(images, targets)
    moved = norm_weights(quantized)
    assert all(np.any(a != b) for a, b in zip(before, moved, strict=True))

    qat.freeze_batch_norm(quantized)
    quantized.compile(tf_keras.optimizers.SGD(1e-4), "mse")
    kernel = quantized.get_layer("quant_conv").trainable_weights[0].numpy()
    frozen = norm_weights(quantized)
    loss = quantized.train_on_batch(images, targets)
    assert quantized.train_on_batch(images, targets) < loss
    assert np.any(quantized.get_layer("quant_conv").trainable_weights[0].numpy() != kernel)
    for a, b in zip(frozen, norm_weights(quantized), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("frozen", [False, True])
def test_loaded_model_computes_exactly_the_same(quantized, images, tmp_path, frozen):
    if frozen:
        qat.freeze_batch_norm(quantized)
    path = tmp_path / "model.h5"
    qat.save(quantized, path)
    loaded = qat.load(path)
    np.testing.assert_array_equal(loaded(images).numpy(), quantized(images).numpy())
    assert len(loaded.trainable_weights) == len(quantized.trainable_weights)
    assert [each.name for each in tmp_path.iterdir()] == ["model.h5"]


def test_measuring_what_layers_lose_leaves_the_model_as_it_was(images, tmp_path):
    network = tiny_network()
    network.get_layer("conv").trainable = False
    model = qat.quantize_aware(network, input_range=qat.PIXEL_RANGE)
    qat.calibrate(model, [images])
    counts = [len(weights) for weights in (model.trainable_weights, model.non_trainable_weights)]
    errors = layer_errors(model, images)
    assert errors["conv"].sqnr_db > 30
    assert errors["conv"].cosine > 0.999
    assert [len(weights) for weights in (model.trainable_weights, model.non_trainable_weights)] == counts
    qat.save(model, tmp_path / "model.h5")
    np.testing.assert_array_equal(qat.load(tmp_path / "model.h5")(images), model(images))


def test_loading_names_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="no quantization-aware model"):
        qat.load(tmp_path / "absent.h5")
    (tmp_path / "broken.h5").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="does not hold a model"):
        qat.load(tmp_path / "broken.h5")
