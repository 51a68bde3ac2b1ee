from __future__ import annotations

from typing import Any

import keras
import pytest

from slimcam.compression.pruning.cost import cost

L = keras.layers


def model_of(build: Any, shape: tuple[int | None, ...] = (8, 8, 3)) -> Any:
    inputs = keras.Input(shape)
    return keras.Model(inputs, build(inputs))


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (L.Conv2D(5, 3, padding="same"), 64 * 9 * 3 * 5),
        (L.Conv2D(5, 3, strides=2, padding="same"), 16 * 9 * 3 * 5),
        (L.Conv2D(6, 3, groups=3, padding="same"), 64 * 9 * 6),
        (L.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), 64 * 9 * 6),
        (L.SeparableConv2D(5, 3, padding="same"), 64 * (9 * 3 + 3 * 5)),
        (L.Conv2DTranspose(5, 3, strides=2, padding="same"), 64 * 9 * 3 * 5),
        (L.Dense(7), 64 * 3 * 7),
        (L.MaxPooling2D(), 0),
    ],
)
def test_multiply_accumulates_of_one_layer(layer: Any, macs: int) -> None:
    model = model_of(layer)

    assert cost(model).macs == macs
    assert cost(model).parameters == model.count_params()


def test_a_shared_layer_costs_its_parameters_once_and_its_work_at_each_call() -> None:
    shared = L.Conv2D(3, 1, use_bias=False)

    found = cost(model_of(lambda x: shared(shared(x))))

    assert found.parameters == 9
    assert found.macs == 2 * 64 * 9


def test_the_table_shows_each_layer_and_the_total() -> None:
    def build(x: Any) -> Any:
        return L.Dense(2, name="head")(L.Flatten()(L.Conv2D(4, 1, name="first")(x)))

    found = cost(model_of(build))

    assert [(layer.name, layer.kind, layer.macs) for layer in found.layers] == [
        ("first", "Conv2D", 64 * 12),
        ("head", "Dense", 64 * 4 * 2),
    ]
    assert str(found).splitlines()[-1].split() == ["total", "530", "1,280"]


def test_a_model_of_open_image_size_is_refused() -> None:
    with pytest.raises(ValueError, match="build it with a fixed input shape"):
        cost(model_of(L.Conv2D(4, 1), (None, None, 3)))
