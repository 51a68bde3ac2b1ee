import keras
import numpy as np
import pytest
import tf_keras

from slimcam.compression.layers.activations import ACTIVATIONS
from slimcam.compression.quantization.keras2 import to_tf_keras

LAYERS = keras.layers


def randomize(model: keras.Model) -> None:
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, LAYERS.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])


def assert_same(model: keras.Model, twin: tf_keras.Model, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).uniform(-1, 1, (2, *shape)).astype(np.float32)
    expected = keras.tree.map_structure(np.asarray, model(x, training=False))
    got = keras.tree.map_structure(np.asarray, twin(x, training=False))
    keras.tree.assert_same_structure(expected, got)
    for a, b in zip(keras.tree.flatten(expected), keras.tree.flatten(got), strict=True):
        assert np.isfinite(a).all()
        assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


def test_residual_network_computes_the_same():
    inputs = keras.Input((16, 16, 3))
    x = LAYERS.ZeroPadding2D(1)(inputs)
    x = shortcut = LAYERS.Conv2D(8, 3, strides=2, name="stem")(x)
    x = LAYERS.ReLU(6.0)(LAYERS.BatchNormalization(epsilon=1.001e-5)(x))
    x = LAYERS.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = LAYERS.Activation("relu")(LAYERS.BatchNormalization(scale=False)(x))
    x = LAYERS.Add()([x, shortcut])
    x = LAYERS.SeparableConv2D(12, 3, padding="same")(x)
    x = LAYERS.MaxPooling2D(2)(x)
    x = LAYERS.LeakyReLU(negative_slope=0.1)(x)
    x = LAYERS.PReLU(shared_axes=[1, 2])(x)
    x = LAYERS.GlobalAveragePooling2D(keepdims=True)(x)
    x = LAYERS.Flatten(name="embedding")(LAYERS.Conv2D(4, 1, use_bias=False)(x))
    model = keras.Model(inputs, x, name="face")
    randomize(model)
    twin = to_tf_keras(model)
    assert_same(model, twin, (16, 16, 3))
    assert twin.name == "face"
    assert [layer.name for layer in twin.layers if layer.weights] == [
        layer.name for layer in model.layers if layer.weights
    ]


@pytest.mark.parametrize("name", sorted(name for name, spec in ACTIVATIONS.items() if spec.keras2 is not None))
def test_activation_means_the_same_on_both_sides(name):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, LAYERS.Activation(name)(LAYERS.Dense(5, activation=name)(inputs)))
    # Weights that reach the bends of all; the exponential of an exponential is infinite with them.
    factor = 1 if name == "exponential" else 4
    model.layers[1].set_weights([weight * factor for weight in model.layers[1].get_weights()])
    assert_same(model, to_tf_keras(model), (6,))


def test_structure_of_outputs_is_kept():
    inputs = keras.Input((4,))
    features = LAYERS.Dense(3, name="features")(inputs)
    model = keras.Model(inputs, {"embedding": features, "others": [LAYERS.Dense(2)(features)]})
    assert_same(model, to_tf_keras(model), (4,))


def test_shared_layer_stays_shared():
    inputs = keras.Input((4,))
    shared = LAYERS.Dense(4, name="shared")
    model = keras.Model(inputs, shared(shared(inputs)))
    twin = to_tf_keras(model)
    assert len(twin.weights) == 2
    assert_same(model, twin, (4,))


def test_nested_models_are_laid_out_flat():
    inner = keras.Sequential([keras.Input((4,)), LAYERS.Dense(3, name="inner")])
    inputs = keras.Input((4,))
    model = keras.Model(inputs, LAYERS.Dense(2, name="outer")(inner(inputs)))
    twin = to_tf_keras(model)
    assert not any(isinstance(layer, tf_keras.Model) for layer in twin.layers)
    assert_same(model, twin, (4,))


def test_arithmetic_on_tensors_is_kept():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, (inputs + 3.0) * inputs - 0.5)
    assert_same(model, to_tf_keras(model), (4,))


def test_regularizers_and_frozen_layers_are_kept():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, LAYERS.Dense(2, kernel_regularizer=keras.regularizers.L2(0.5), trainable=False)(inputs))
    twin = to_tf_keras(model)
    assert float(twin.layers[1].kernel_regularizer.l2) == 0.5
    assert twin.trainable_weights == []


def test_layer_without_counterpart_is_named():
    class Doubling(LAYERS.Layer):
        def call(self, inputs):
            return inputs * 2

    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match="'twice' \\(Doubling\\) has no counterpart"):
        to_tf_keras(keras.Model(inputs, Doubling(name="twice")(inputs)))


def test_own_layer_that_is_called_as_one_of_keras_is_refused():
    class Dense(LAYERS.Layer):
        def call(self, inputs):
            return inputs * 2

    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match="no counterpart"):
        to_tf_keras(keras.Model(inputs, Dense(name="not_keras")(inputs)))


def test_activation_and_operation_without_counterpart_are_named():
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match=r"'odd' has activation 'squareplus'"):
        to_tf_keras(keras.Model(inputs, LAYERS.Dense(2, activation="squareplus", name="odd")(inputs)))
    with pytest.raises(ValueError, match=r"operation .* \(Sin\) has no counterpart"):
        to_tf_keras(keras.Model(inputs, keras.ops.sin(inputs)))


def test_subclassed_model_is_refused():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="functional or Sequential model was expected"):
        to_tf_keras(Subclassed())


def test_option_that_keras_2_does_not_have_is_named():
    inputs = keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match="'odd' sets antialias, which tf_keras does not have"):
        to_tf_keras(keras.Model(inputs, LAYERS.Resizing(4, 4, antialias=True, name="odd")(inputs)))
    rows = keras.Input((8, 3))
    assert_same(model := keras.Model(rows, LAYERS.DepthwiseConv1D(3)(rows)), to_tf_keras(model), (8, 3))


def test_dropout_is_active_in_training_alone():
    inputs = keras.Input((64,))
    twin = to_tf_keras(keras.Model(inputs, LAYERS.Dropout(0.5)(inputs)))
    ones = np.ones((1, 64), np.float32)
    assert np.any(twin(ones, training=True).numpy() == 0)
    assert np.all(twin(ones, training=False).numpy() == 1)
