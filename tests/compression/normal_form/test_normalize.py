"""The normal form computes what the model does, in kinds of layers that have an int8 form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from slimcam.compression.errors import UntraceableModelError
from slimcam.compression.keras_graph import kind, ordered_nodes
from slimcam.compression.layers.table import layer_spec
from slimcam.compression.normal_form.normalize import normalize
from slimcam.compression.pruning.graph import trace
from slimcam.compression.quantization.equalize import equalize

L, ops = keras.layers, keras.ops
SHAPE = (12, 12, 6)


def randomize(model: Any) -> Any:
    """Statistics, biases and slopes as after training."""
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers(include_self=False):
        for weight in layer.weights if not isinstance(layer, (keras.Model, L.Normalization)) else ():
            if weight.name in ("gamma", "moving_variance"):
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            elif weight.name in ("beta", "bias", "moving_mean", "alpha"):
                weight.assign(rng.normal(0, 0.2, weight.shape))
    return model


def model_of(layers: Callable[[Any], Any], shape: tuple[int, ...] = SHAPE) -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    return randomize(keras.Model(inputs, layers(inputs)))


def assert_equivalent(model: Any, normal: Any) -> None:
    x = np.random.default_rng(1).uniform(-1, 1, (2, *model.inputs[0].shape[1:])).astype(np.float32)
    expected, given = (keras.tree.flatten(each(x, training=False)) for each in (model, normal))
    for left, right in zip(expected, given, strict=True):
        np.testing.assert_allclose(right, left, atol=1e-5 * max(1.0, float(np.abs(left).max())))


def conv(x: Any, filters: int = 8) -> Any:
    return L.Conv2D(filters, 3, padding="same")(x)


def pre_activation(x: Any) -> Any:
    x = conv(x)
    return L.Add()([conv(L.ReLU()(L.BatchNormalization()(x))), x])


def two_norms(x: Any) -> Any:
    x = conv(x)
    return L.Add()([L.ReLU()(L.BatchNormalization()(x)), L.BatchNormalization()(x)])


def squeeze_and_excitation(x: Any) -> Any:
    y = ops.mean(x, axis=(1, 2), keepdims=True)
    return x * L.Activation("hard_sigmoid")(L.Conv2D(6, 1)(y))


def relu_for_several(x: Any) -> Any:
    x = L.MaxPooling2D(2)(L.ReLU()(conv(x)))
    return L.Concatenate()([L.ReLU()(conv(x)), L.AveragePooling2D(3, 1, padding="same")(x), L.ReLU()(x)])


NETWORKS: dict[str, Callable[[Any], Any]] = {
    "arithmetic": lambda x: ops.clip(x * 0.2 + x + 3.0, 0.0, 3.0) - 1.5 * x / 2.0 - (1.0 - x),
    "general clip": lambda x: ops.maximum(ops.minimum(ops.clip(x, -0.5, 0.7), 0.3), -0.2),
    "mean": lambda x: ops.mean(x, axis=(1, 2)),
    "shapes": lambda x: ops.reshape(ops.expand_dims(ops.pad(x, ((0, 0), (1, 1), (2, 0), (0, 0))), 1), (-1, 196, 6)),
    "split": lambda x: L.Add()(ops.split(x, 3, axis=-1)) + x[..., 1:3],
    "spatial slice": lambda x: x[:, 1:-2, :, 2:],
    "pre-activation": pre_activation,
    "two norms": two_norms,
    "separable": lambda x: L.BatchNormalization(scale=False)(
        L.SeparableConv2D(8, 3, strides=2, depth_multiplier=2, activation="silu")(x)
    ),
    "depth multiplier": lambda x: L.ReLU()(L.BatchNormalization()(L.DepthwiseConv2D(3, depth_multiplier=2)(x))),
    "average pooling": lambda x: L.AveragePooling2D(3, 2, padding="same")(L.AveragePooling2D(2)(x)),
    "average of all": lambda x: L.AveragePooling2D(12)(x),
    "stem with border": lambda x: conv(L.Normalization(mean=[0.1] * 6, variance=[0.2] * 6)(L.Rescaling(0.3, 0.3)(x))),
    "stem without border": lambda x: L.Conv2D(4, 3)(L.Rescaling(1 / 255, 0.3)(x)),
    "squeeze and excitation": squeeze_and_excitation,
    "hard activations": lambda x: L.Activation("hard_silu")(L.Conv2D(4, 1, activation="hard_sigmoid")(x)),
    "prelu": lambda x: L.PReLU(shared_axes=[1, 2])(conv(x)),
    "nearest": lambda x: L.UpSampling2D((2, 3))(L.MaxPooling2D(1, strides=2)(x)),
    "maximum": lambda x: L.Minimum()([L.Maximum()([x, x * 0.5, x * 0.1]), L.Average()([x, conv(x, 6)])]),
    "transposed": lambda x: L.ReLU()(L.BatchNormalization()(L.Conv2DTranspose(5, 2, strides=2)(x))),
    "several readers": relu_for_several,
    "training only": lambda x: L.GaussianNoise(0.1)(L.Dropout(0.3)(L.RandomFlip()(L.Identity()(x)))),
    "many at once": lambda x: L.Concatenate()([x] + [conv(x, 2) for _ in range(7)]),
    "relu of a concatenation": lambda x: L.ReLU()(L.Concatenate()([x, L.ReLU()(x)])),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_normal_form_computes_what_the_model_does_in_layers_that_have_an_int8_form(
    network: Callable[[Any], Any],
) -> None:
    model = model_of(network)
    assert_equivalent(model, normalize(model).model)
    normal = normalize(model, int8=True).model
    assert_equivalent(model, normal)
    specs = [layer_spec(layer) for layer in normal.layers if not isinstance(layer, (L.InputLayer, L.Activation))]
    assert all(spec is not None and spec.output is not None for spec in specs)
    assert normalize(normal, int8=True).model is normal


def scaled_branch(x: Any) -> Any:
    x = CustomScaleLayer(0.17)([conv(x), conv(x)])
    return x + StochasticDepth(0.5)(LayerScale(0.3, 8)(conv(x)))


def test_blocks_of_inception_resnet_and_convnext_have_an_int8_form() -> None:
    model = model_of(scaled_branch)
    normal = normalize(model, int8=True).model
    assert_equivalent(model, normal)
    assert {kind(layer) for layer in normal.layers} == {"InputLayer", "Conv2D", "Add"}


ROWS: dict[str, Callable[[Any], Any]] = {
    "causal": lambda x: L.MaxPooling1D(2)(
        L.BatchNormalization()(L.Conv1D(8, 3, padding="causal", dilation_rate=2, activation="relu")(x))
    ),
    "depthwise": lambda x: L.AveragePooling1D(2)(L.DepthwiseConv1D(3, strides=2, padding="same")(x)),
    "separable": lambda x: L.GlobalAveragePooling1D()(L.SeparableConv1D(7, 3)(L.ZeroPadding1D(1)(x))),
    "dense": lambda x: L.Dense(4, "relu")(x),
}


@pytest.mark.parametrize("network", ROWS.values(), ids=ROWS)
def test_one_dimensional_layers_become_those_of_images_of_one_row(network: Callable[[Any], Any]) -> None:
    model = model_of(network, (20, 6))
    normal = normalize(model, int8=True).model
    assert_equivalent(model, normal)
    assert not any(type(layer).__name__.endswith("1D") or isinstance(layer, L.Dense) for layer in normal.layers)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("layer", "becomes"), [((2, 1), "Conv2D"), ((2, 2), "DepthwiseConv2D")])
def test_pooling_of_unequal_strides_is_what_every_processor_computes(
    layer: tuple[int, int], becomes: str, padding: str
) -> None:
    model = model_of(lambda x: L.MaxPooling2D(1, layer)(L.AveragePooling2D((3, 2), layer, padding)(x)))
    normal = normalize(model, int8=True).model
    assert_equivalent(model, normal)
    kinds = {type(each).__name__ for each in normal.layers}
    assert becomes in kinds
    assert not {"AveragePooling2D", "MaxPooling2D"} & kinds


def test_dense_layers_and_their_normalization_become_convolutions_of_one_pixel() -> None:
    model = model_of(lambda x: L.Dense(3)(L.ReLU()(L.BatchNormalization()(L.Dense(16, use_bias=False)(x)))), (30,))
    normal = normalize(model, int8=True).model
    assert_equivalent(model, normal)
    assert [kind(layer) for layer in normal.layers[1:]] == ["Reshape", "Conv2D", "ReLU", "Conv2D", "Reshape"]


def test_models_within_the_model_are_laid_out_flat_with_unique_names_and_shared_layers() -> None:
    inner = keras.Sequential([keras.Input(SHAPE), L.Conv2D(6, 3, padding="same", name="conv"), L.ReLU()], name="inner")
    model = model_of(lambda x: L.Conv2D(4, 3, name="conv")(inner(inner(x))))
    form = normalize(model)
    assert_equivalent(model, form.model)
    assert sorted(layer.name for layer in form.model.layers if layer.weights) == ["conv", "conv_2"]
    assert not any(isinstance(node.operation, keras.Model) for node in ordered_nodes(form.model))
    assert len(trace(form.model).groups) > 1
    assert str(form.changes[0]) == "inner (Model) -> its layers"


def test_model_in_normal_form_is_returned_as_it_is() -> None:
    def layers(x: Any) -> Any:
        x = shortcut = L.ReLU(6.0)(L.BatchNormalization()(conv(L.ZeroPadding2D()(x))))
        x = L.MaxPooling2D(2)(L.Activation("relu")(L.Add()([L.BatchNormalization()(conv(x)), shortcut])))
        return L.Flatten()(L.BatchNormalization()(L.Conv2D(4, 1)(L.GlobalAveragePooling2D(keepdims=True)(x))))

    model = model_of(layers)
    assert normalize(model).model is model
    assert normalize(model, int8=True).model is model


def test_every_layer_says_where_it_comes_from() -> None:
    form = normalize(model_of(lambda x: L.Activation("hard_silu", name="swish")(L.Conv2D(4, 1)(x))), int8=True)
    assert {form.origins[layer.name] for layer in form.model.layers[2:]} == {"swish"}


def test_dropout_stays_active_in_training() -> None:
    model = model_of(lambda x: L.Dropout(0.5)(L.Identity()(x)))
    x = np.ones((1, *SHAPE), np.float32)
    for int8 in (False, True):
        normal = normalize(model, int8=int8).model
        assert np.any(np.asarray(normal(x, training=True)) == 0)
        assert np.all(np.asarray(normal(x, training=False)) == 1)


def test_models_of_lower_precision_are_written_in_float32() -> None:
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, L.Conv2D(4, 1, dtype="mixed_float16")(inputs))
    normal = normalize(model, int8=True).model
    assert normal.layers[-1].compute_dtype == "float32"


def test_subclassed_model_is_refused() -> None:
    class Subclassed(keras.Model):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(UntraceableModelError, match="cannot be traced"):
        normalize(Subclassed())


def test_batch_normalization_without_a_factor_gets_one_through_which_channels_are_equalized() -> None:
    def network(x: Any) -> Any:
        x = L.BatchNormalization(scale=False)(L.Conv2D(8, 3, use_bias=False)(x))
        return conv(L.ReLU()(L.BatchNormalization(scale=False, center=False)(conv(L.ReLU()(x)))))

    model = model_of(network)
    normal = normalize(model, int8=True).model
    assert_equivalent(model, normal)
    norms = [layer for layer in normal.layers if isinstance(layer, L.BatchNormalization)]
    assert len(norms) == 2
    assert all(norm.scale for norm in norms)
    assert equalize(normal, [np.ones((1, *SHAPE), np.float32)]) == 2
    assert_equivalent(model, normal)
