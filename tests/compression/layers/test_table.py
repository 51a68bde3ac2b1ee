"""The table of layer facts, and layers of users in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

from slimcam import compression
from slimcam.compression.layers.spec import Counterpart
from slimcam.compression.layers.table import LAYERS
from slimcam.compression.layers.tracking import Call, Channels, DependencyTracker
from slimcam.compression.quantization.keras2 import to_tf_keras

L = keras.layers


class Mixing(L.Layer):  # type: ignore[misc]
    """A user's layer: mixes channels with a weight of its own, and adds an offset to each result."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.width = width

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.mixture = self.add_weight(shape=(self.width, shape[-1]), name="mixture")
        self.offset = self.add_weight(shape=(self.width,), name="offset")

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(x, keras.ops.transpose(self.mixture)) + self.offset

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width}


def follow(tracker: DependencyTracker, call: Call) -> Channels:
    layer = call.operation
    made = tracker.produce(layer, "mixture", 0)
    tracker.add_slice(layer, "mixture", 1, call.inputs[0].variables)
    tracker.add_slice(layer, "offset", 0, made)
    tracker.add_size(layer, "width", made)
    return Channels(call.channel_axis, made)


def rebuild(layer: Mixing) -> Any:
    twin = tf_keras.layers.Conv2D(layer.width, 1, name=layer.name)

    def call(x: Any, **_: Any) -> Any:
        result = twin(x)
        kernel, offset = (keras.ops.convert_to_numpy(weight) for weight in (layer.mixture, layer.offset))
        twin.set_weights([kernel.T[None, None], offset])
        return result

    return call


SPEC = compression.LayerSpec(
    dependencies=follow,
    macs=lambda layer, inputs, output: output[1] * output[2] * layer.width * inputs[0][-1],
    kernels=(compression.Kernel("mixture", reads=-1, writes=(-2,)),),
    output_weights=("mixture", "offset"),
    keras2=rebuild,
)


@pytest.fixture
def registered() -> Iterator[None]:
    before = dict(LAYERS)
    compression.register_layer(Mixing, SPEC)
    yield
    LAYERS.clear()
    LAYERS.update(before)


def model_with_mixing() -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = L.ReLU()(L.Conv2D(6, 1, name="first")(inputs))
    x = L.ReLU()(Mixing(10, name="mixing")(x))
    model = keras.Model(inputs, L.Conv2D(2, 1, name="last")(x))
    for weight in model.weights:
        weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    return model


IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)


@pytest.mark.usefixtures("registered")
def test_a_registered_layer_is_cut_and_counted() -> None:
    model = model_with_mixing()
    graph = compression.trace(model)
    assert [group.name for group in graph.prunable] == ["first", "mixing"]
    plan = compression.plan(
        graph, compression.importance(model, graph), compression.PruningRatioConfig(0.5, round_to=1)
    )
    smaller = compression.cut(model, plan)
    assert smaller.get_layer("mixing").mixture.shape == (5, 3)
    np.testing.assert_allclose(smaller(IMAGES), compression.mask(model, plan)(IMAGES), rtol=1e-4, atol=1e-4)
    found = compression.cost(smaller)
    assert found.uncounted == ()
    assert found.macs == 64 * (3 * 3 + 3 * 5 + 5 * 2)


@pytest.mark.usefixtures("registered")
def test_a_registered_layer_is_equalized_and_goes_through_the_door_to_keras_2() -> None:
    model = model_with_mixing()
    before = model.predict(IMAGES, verbose=0)
    assert compression.equalize(model, [IMAGES]) == 2
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), before, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(to_tf_keras(model).predict(IMAGES, verbose=0), before, rtol=1e-3, atol=1e-3)


def test_a_layer_that_is_not_registered_is_named_wherever_its_facts_are_needed() -> None:
    model = model_with_mixing()
    groups = {group.name: group.frozen for group in compression.trace(model).groups}
    assert "read by mixing: layers of type" in groups["first"]
    found = compression.cost(model)
    (name,) = found.uncounted
    assert name.startswith("mixing (")
    assert name.endswith("Mixing)")
    assert "not counted in the MACs: mixing (" in str(found)
    with pytest.raises(ValueError, match=r"'mixing' \(Mixing\) has no counterpart in tf_keras.*register_layer"):
        to_tf_keras(model)


def test_only_classes_with_a_spec_are_registered() -> None:
    with pytest.raises(TypeError, match="takes a layer class and a LayerSpec"):
        compression.register_layer(Mixing(3), SPEC)
    with pytest.raises(TypeError, match="takes a layer class and a LayerSpec"):
        compression.register_layer(Mixing, {"macs": 0})


def test_every_counterpart_exists_in_keras_2() -> None:
    missing = [
        name
        for name, spec in LAYERS.items()
        if isinstance(spec.keras2, Counterpart) and not hasattr(tf_keras.layers, name)
    ]
    assert missing == []


def test_every_entry_is_a_layer_or_an_operation_of_keras() -> None:
    from keras.src import ops
    from keras.src.applications import convnext, inception_resnet_v2

    modules = (ops.numpy, ops.nn, ops.core, ops.math)
    known = {*dir(keras.layers), *dir(convnext), *dir(inception_resnet_v2)}
    known |= {f"ops.{name}" for module in modules for name in dir(module)}
    assert sorted(set(LAYERS) - known) == []


def test_every_kernel_is_a_weight_of_its_layer() -> None:
    options: dict[str, Any] = {"Dense": {"units": 4}}
    for name, spec in LAYERS.items():
        if not spec.kernels:
            continue
        rank = next((int(letter) for letter in name if letter.isdigit()), 2)
        given = options.get(name, {"kernel_size": 3} if "Depthwise" in name else {"filters": 4, "kernel_size": 3})
        layer = getattr(L, name)(**given)
        layer.build((None, *[8] * rank, 3))
        shapes = {weight.name: weight.shape for weight in layer.weights}
        for kernel in spec.kernels:
            assert hasattr(layer, kernel.initializer)
            assert shapes[kernel.name][kernel.reads] == 3
        assert np.prod([shapes[spec.kernels[-1].name][axis] for axis in spec.kernels[-1].writes]) in (3, 4)
        assert set(spec.output_weights) <= set(shapes)
