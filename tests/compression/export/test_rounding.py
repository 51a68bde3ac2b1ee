"""Scales are such that every version of XNNPACK rounds alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcam import compression
from slimcam.compression.export.delegation import operator_kinds
from slimcam.compression.export.rounding import _Tensor, _without_halves, rounded_alike
from slimcam.deploy.inference.interpreter import Interpreter

L = keras.layers
IMAGES = np.random.default_rng(0).uniform(-1, 127 / 128, (16, 14, 14, 3)).astype(np.float32)


@dataclass(frozen=True)
class Node:
    """An operator of a file, and the scales of its inputs and of its output."""

    kind: str
    inputs: list[Any]
    output: Any


def nodes(content: bytes) -> list[Node]:
    root = schema.Model.GetRootAs(content)
    graph = root.Subgraphs(0)

    def scale(index: int) -> Any:
        quantization = graph.Tensors(index).Quantization()
        return quantization.ScaleAsNumpy() if quantization and quantization.ScaleLength() else None

    listed = [graph.Operators(index) for index in range(graph.OperatorsLength())]
    return [
        Node(kind, [scale(index) for index in node.InputsAsNumpy()], scale(node.Outputs(0)))
        for kind, node in zip(operator_kinds(root), listed, strict=True)
    ]


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A file with gates and an embedding, as the quantizer leaves it."""
    monkeypatch.setattr("slimcam.compression.quantization.post_training.rounded_alike", lambda content: content)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((14, 14, 3))
    x = L.Conv2D(24, 3, activation="relu")(inputs)
    gate = L.Conv2D(24, 1, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    x = L.GlobalAveragePooling2D()(L.Multiply()([x, gate]))
    model = keras.Model(inputs, L.Dense(8)(x))
    return compression.post_training_int8(compression.normalize(model, int8=True).model, [IMAGES])


@settings(deadline=None, max_examples=50)
@given(
    source=st.floats(1e-4, 0.1),
    ratio=st.floats(0.5, 8.0),
    side=st.integers(1, 28),
    zero_points=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
)
def test_all_ways_to_round_a_mean_agree(source: float, ratio: float, side: int, zero_points: tuple[int, int]) -> None:
    image, mean = (
        _Tensor(np.array(shape, np.int32), np.array([scale], np.float32), zero)
        for shape, scale, zero in zip(
            ((1, side, side, 4), (1, 1, 1, 4)), (source, source / ratio), zero_points, strict=True
        )
    )
    scale = _without_halves(image, mean)
    assert abs(scale / mean.scale[0] - 1) < 5.1e-4
    assert _without_halves(image, _Tensor(mean.shape, np.array([scale], np.float32), 0)) == pytest.approx(scale, 1e-6)
    count = side * side
    factor = image.scale[0] / (scale * np.float32(count))
    limit = min(int(300 / factor), 255 * count)
    sums = np.unique(np.linspace(-limit, limit, 100_001).astype(np.int64))
    before = np.round(sums.astype(np.float32) * factor) + mean.zero_point
    half_up = np.floor(sums * np.float64(factor) + 0.5) + mean.zero_point
    moved = np.float32(mean.zero_point) - np.float32(count * image.zero_point) * factor
    after = np.round((sums + count * image.zero_point).astype(np.float32) * factor + moved)
    for other in (half_up, after):
        np.testing.assert_array_equal(np.clip(other, -128, 127), np.clip(before, -128, 127))


def test_factors_do_not_depend_on_the_order_of_multiplication(content: bytes) -> None:
    def orders(file: bytes) -> list[tuple[Any, Any]]:
        kernels = [node for node in nodes(file) if node.kind in ("CONV_2D", "FULLY_CONNECTED")]
        return [
            (source * weights / node.output, weights * (source / node.output))
            for node in kernels
            for source, weights in [node.inputs[:2]]
        ]

    assert any((one != other).any() for one, other in orders(content))
    for one, other in orders(rounded_alike(content)):
        np.testing.assert_array_equal(one, other)
    assert rounded_alike(rounded_alike(content)) == rounded_alike(content)


def test_scales_change_by_digits_that_mean_nothing(content: bytes) -> None:
    file = rounded_alike(content)
    for old, new in zip(nodes(content), nodes(file), strict=True):
        np.testing.assert_allclose(new.output, old.output, rtol=5.1e-4)
        np.testing.assert_allclose(new.inputs[0], old.inputs[0], rtol=5.1e-4)
    # The gates' scale is TFLite's.
    assert [node.output[0] for node in nodes(file) if node.kind == "LOGISTIC"] == [1 / 256]
    outputs = []
    for each in (content, file):
        interpreter = Interpreter(each)
        tensor = interpreter.input
        steps = np.clip(np.round(IMAGES / tensor.scale + tensor.zero_point), -128, 127).astype(np.int8)
        outputs.append(np.concatenate([interpreter.run(image[np.newaxis])[0] for image in steps]).astype(int))
        assert interpreter.delegation().complete
    assert np.abs(outputs[1] - outputs[0]).max() <= 1


def test_what_a_mean_is_only_moved_into_keeps_its_scale(content: bytes) -> None:
    for old, new in zip(nodes(content), nodes(rounded_alike(content)), strict=True):
        if old.kind == "RESHAPE" and np.array_equal(old.inputs[0], old.output):
            np.testing.assert_array_equal(new.inputs[0], new.output)


def test_a_float_file_stays_as_it_is(float_model: bytes) -> None:
    assert rounded_alike(float_model) == float_model
