"""The equation that everything rests on: cut(model)(x) == mask(model)(x)."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from slimcam.compression.pruning.config import PruningRatioConfig
from slimcam.compression.pruning.cost import cost
from slimcam.compression.pruning.graph import trace
from slimcam.compression.pruning.importance import importance
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.compression.pruning.selection import plan
from slimcam.compression.pruning.surgery import cut, mask
from tests.compression.pruning.constructs import CONSTRUCTS

L = keras.layers


def model_of(build: Any, shape: tuple[int, ...] = (8, 8, 3)) -> Any:
    inputs = keras.Input(shape, name="image")
    return keras.Model(inputs, build(inputs), name="toy")


def randomize(model: Any, seed: int = 0) -> Any:
    """Random weights, biases and statistics: fresh zeros and ones would hide mistakes."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name in ("gamma", "moving_variance", "scale"):
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            elif weight.name in ("bias", "beta", "moving_mean", "alpha"):
                weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


def prune_half(model: Any, seed: int = 0) -> PruningPlan:
    """Keeps a random half of each group."""
    graph, rng = trace(model), np.random.default_rng(seed)
    scores = {group.name: rng.uniform(0.5, 1.5, group.size) for group in graph.prunable}
    return plan(graph, scores, PruningRatioConfig(0.5, round_to=1))


def assert_cut_equals_mask(model: Any, seed: int = 0, tolerance: float = 1e-4) -> Any:
    """Cuts a random half of the channels, and gives the result."""
    found = prune_half(randomize(model, seed), seed)
    small, masked = cut(model, found), mask(model, found)
    images = np.random.default_rng(seed).normal(size=(3, *model.inputs[0].shape[1:])).astype(np.float32)
    expected = keras.ops.convert_to_numpy(masked(images, training=False))
    actual = keras.ops.convert_to_numpy(small(images, training=False))
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual / scale, expected / scale, atol=tolerance)
    assert small.count_params() < model.count_params()
    return small


def conv_conv(x: Any) -> Any:
    return L.Conv2D(2, 1)(L.Conv2D(8, 3, activation="sigmoid")(x))


def conv_bn_conv(x: Any) -> Any:
    return L.Conv2D(2, 1)(L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, use_bias=False)(x))))


def residual_add(x: Any) -> Any:
    x = L.Conv2D(8, 1)(x)
    y = L.BatchNormalization()(L.Conv2D(8, 3, padding="same")(L.ReLU()(L.Conv2D(6, 1)(x))))
    return L.Conv2D(2, 1)(L.ReLU()(L.Add()([x, y])))


def gate(x: Any) -> Any:
    x = L.Conv2D(8, 1)(x)
    pooled = L.Reshape((1, 1, 8))(L.GlobalAveragePooling2D()(x))
    squeezed = L.Conv2D(4, 1, activation="relu")(pooled)
    return L.Conv2D(2, 1)(L.Multiply()([x, L.Conv2D(8, 1, activation="sigmoid")(squeezed)]))


def spatial_gate(x: Any) -> Any:
    x = L.Conv2D(8, 1)(x)
    return L.Conv2D(2, 1)(L.Multiply()([x, L.Conv2D(1, 3, padding="same", activation="sigmoid")(x)]))


def concatenation(x: Any) -> Any:
    a, b = L.Conv2D(4, 1)(x), L.Conv2D(6, 1)(x)
    return L.Conv2D(2, 1)(L.BatchNormalization()(L.Concatenate()([a, b, a])))


def spatial_concatenation(x: Any) -> Any:
    return L.Conv2D(2, 1)(L.Concatenate(axis=1)([L.Conv2D(6, 1)(x), L.Conv2D(6, 3, padding="same")(x)]))


def depthwise(x: Any) -> Any:
    x = L.DepthwiseConv2D(3, depth_multiplier=2)(L.Conv2D(6, 1)(x))
    return L.Conv2D(2, 1)(L.BatchNormalization()(x))


def separable(x: Any) -> Any:
    return L.Conv2D(2, 1)(L.SeparableConv2D(6, 3, depth_multiplier=2)(L.Conv2D(6, 1)(x)))


def transposed(x: Any) -> Any:
    return L.Conv2D(2, 1)(L.Conv2DTranspose(6, 3, strides=2)(L.Conv2D(6, 1)(x)))


def grouped(x: Any) -> Any:
    return L.Conv2D(2, 1)(L.Conv2D(12, 3, groups=2)(L.Conv2D(8, 1)(x)))


def flatten_dense(x: Any) -> Any:
    x = L.Flatten()(L.MaxPooling2D(4)(L.Conv2D(6, 1)(x)))
    return L.Dense(2)(L.BatchNormalization()(L.Dense(8, activation="tanh")(x)))


def reshaped(x: Any) -> Any:
    x = L.Reshape((4, 96))(L.Conv2D(6, 1, strides=1)(L.MaxPooling2D(1)(x)))
    return L.Dense(2)(L.Permute((2, 1))(L.Conv1D(6, 3)(x)))


def prelu(x: Any) -> Any:
    x = L.PReLU(shared_axes=[1, 2])(L.Conv2D(6, 1)(x))
    return L.Conv2D(2, 1)(L.PReLU()(L.Conv2D(6, 1)(x)))


def shared(x: Any) -> Any:
    both = L.Conv2D(6, 1)
    a, b = both(L.Conv2D(8, 1)(x)), both(L.Conv2D(8, 1)(x))
    return L.Conv2D(2, 1)(L.Concatenate()([a, b]))


def unknown(x: Any) -> Any:
    x = L.Lambda(lambda x: x[..., ::-1], output_shape=(8, 8, 6))(L.Conv2D(6, 1)(x))
    return L.Conv2D(2, 1)(L.Conv2D(8, 1)(x))


def operations(x: Any) -> Any:
    x = L.Conv2D(8, 1)(x)
    x = x * keras.ops.relu6(x + 3.0) / (1.0 + keras.ops.exp(-x))
    return L.Dense(2)(keras.ops.mean(x, axis=(1, 2)))


def borders(x: Any) -> Any:
    x = L.ZeroPadding2D(2)(L.Conv2D(6, 1)(x))
    return L.Conv2D(2, 1)(L.UpSampling2D()(L.Cropping2D(1)(L.SpatialDropout2D(0.5)(x))))


@pytest.mark.parametrize(
    "build",
    [
        *(conv_conv, conv_bn_conv, residual_add, gate, spatial_gate, concatenation, spatial_concatenation, depthwise),
        *(separable, transposed, grouped, flatten_dense, reshaped, prelu, shared, unknown, operations, borders),
    ],
)
def test_the_cut_model_equals_the_masked_one(build: Any) -> None:
    assert_cut_equals_mask(model_of(build))


@pytest.mark.parametrize("construct", CONSTRUCTS.values(), ids=CONSTRUCTS)
def test_every_construct_is_pruned_and_its_cut_equals_the_mask(construct: Callable[[Any], Any], tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return L.Conv2D(2, 1)(construct(x))

    model = model_of(build)
    assert not [group for group in trace(model).groups if group.frozen not in ("", "model input", "model output")]
    small = assert_cut_equals_mask(model)
    small.save(tmp_path / "small.keras")
    images = np.ones((2, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "small.keras")(images), small(images))


def test_mobilenet_v2_cut_equals_masked() -> None:
    model = keras.applications.MobileNetV2(alpha=0.35, weights=None, input_shape=(32, 32, 3), classes=5)

    assert_cut_equals_mask(model)


@pytest.fixture
def small_resnet() -> Any:
    def build(x: Any) -> Any:
        x = L.BatchNormalization(name="stem_bn")(L.Conv2D(16, 3, padding="same", name="stem")(x))
        for block in range(2):
            y = L.ReLU()(L.BatchNormalization()(L.Conv2D(16, 1, name=f"block{block}_1")(x)))
            y = L.ReLU()(L.BatchNormalization()(L.Conv2D(16, 3, padding="same", name=f"block{block}_2")(y)))
            x = L.ReLU()(L.Add()([x, L.BatchNormalization()(L.Conv2D(16, 1, name=f"block{block}_3")(y))]))
        return L.Dense(4, name="head")(L.GlobalAveragePooling2D()(x))

    return randomize(model_of(build))


def test_the_cut_model_can_be_saved_and_loaded(small_resnet: Any, tmp_path: Path) -> None:
    small = cut(small_resnet, prune_half(small_resnet))
    small.save(tmp_path / "small.keras")

    loaded = keras.saving.load_model(tmp_path / "small.keras")

    images = np.ones((1, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(loaded(images), small(images))


def test_the_cut_model_can_be_cut_again(small_resnet: Any) -> None:
    once = assert_cut_equals_mask(small_resnet)

    twice = assert_cut_equals_mask(once)

    assert twice.get_layer("stem").filters == 4


def test_names_and_trainable_flags_stay_and_the_original_is_untouched(small_resnet: Any) -> None:
    small_resnet.get_layer("stem_bn").trainable = False
    before = [keras.ops.convert_to_numpy(weight) for weight in small_resnet.weights]

    small = cut(small_resnet, prune_half(small_resnet))

    assert [layer.name for layer in small.layers] == [layer.name for layer in small_resnet.layers]
    assert [layer.trainable for layer in small.layers] == [layer.trainable for layer in small_resnet.layers]
    assert small.name == "toy"
    assert small.get_layer("stem").filters == 8
    assert small_resnet.get_layer("stem").filters == 16
    for weight, value in zip(small_resnet.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_the_structure_of_inputs_and_outputs_stays() -> None:
    inputs = {"left": keras.Input((4, 4, 3), name="left"), "right": keras.Input((4, 4, 3), name="right")}
    x = L.Add()([L.Conv2D(8, 1)(inputs["left"]), L.Conv2D(8, 1)(inputs["right"])])
    model = keras.Model(inputs, {"map": L.Conv2D(2, 1)(x), "scores": L.Dense(3)(L.GlobalMaxPooling2D()(x))})

    small = cut(model, prune_half(model))

    images = {name: np.ones((1, 4, 4, 3), np.float32) for name in inputs}
    assert {name: tuple(value.shape) for name, value in small(images).items()} == {
        "map": (1, 4, 4, 2),
        "scores": (1, 3),
    }


def test_a_sequential_model_becomes_a_functional_one() -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(8, 3), L.Flatten(), L.Dense(2)])

    assert_cut_equals_mask(model)


def test_inner_scope_leaves_the_residual_stream_whole(small_resnet: Any) -> None:
    graph = trace(small_resnet)
    found = plan(graph, importance(small_resnet, graph), PruningRatioConfig(0.5, scope="inner"))

    small = cut(small_resnet, found)

    assert [small.get_layer(name).filters for name in ("stem", "block0_1", "block0_2", "block0_3")] == [16, 8, 8, 16]
    assert cost(small).macs < cost(small_resnet).macs


def test_a_plan_for_another_model_is_refused(small_resnet: Any) -> None:
    with pytest.raises(ValueError, match="the pruning plan is for another model"):
        cut(small_resnet, prune_half(model_of(conv_conv)))


class Doubled(keras.layers.Layer):  # type: ignore[misc]
    """A layer of the user's own that does not say how it was made."""

    def __init__(self, factor: float) -> None:
        super().__init__(name="doubled")
        self.factor = factor

    def call(self, x: Any) -> Any:
        return self.factor * x

    def get_config(self) -> Any:
        return {"name": self.name}


def test_a_layer_that_cannot_be_rebuilt_is_named() -> None:
    model = model_of(lambda x: L.Conv2D(2, 1)(L.Conv2D(4, 1)(Doubled(2.0)(x))))

    with pytest.raises(
        ValueError, match=r"layer 'doubled' cannot be rebuilt from its configuration; give its class a get"
    ):
        cut(model, prune_half(model))


@pytest.mark.parametrize(
    ("scope", "parameters", "macs"), [("all", 2_486_968, 363_508_096), ("inner", 7_798_640, 1_100_263_616)]
)
def test_the_case_studys_sizes_are_reproduced(scope: str, parameters: int, macs: int) -> None:
    backbone = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(224, 224, 3))
    x = L.GlobalAveragePooling2D(keepdims=True)(backbone.output)
    x = L.BatchNormalization()(L.Conv2D(512, 1, use_bias=False)(x))
    model = keras.Model(backbone.input, L.Flatten()(x))
    graph = trace(model)
    anything = {group.name: np.arange(group.size, dtype=np.float64) for group in graph.prunable}

    found = cost(cut(model, plan(graph, anything, PruningRatioConfig(0.7, scope=scope))))

    assert (found.parameters, found.macs) == (parameters, macs)


def test_a_network_deeper_than_pythons_recursion_is_masked() -> None:
    inputs = x = keras.Input((4, 4, 8))
    for _ in range(400):
        x = keras.layers.ReLU()(x)
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1)(keras.layers.Conv2D(16, 1)(x)))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 300)  # as of a network thrice as deep
    try:
        graph = trace(model)
        chosen = plan(graph, importance(model, graph), PruningRatioConfig(ratio=0.5))
        assert mask(model, chosen).output_shape == model.output_shape
    finally:
        sys.setrecursionlimit(limit)
