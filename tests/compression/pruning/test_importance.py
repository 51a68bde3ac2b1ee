from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from slimcam.compression.pruning.graph import trace
from slimcam.compression.pruning.importance import importance

L = keras.layers


@pytest.fixture
def model() -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 3))
    x = L.BatchNormalization(name="norm")(L.Conv2D(4, 1, name="a")(inputs))
    y = L.Conv2D(4, 1, name="b")(inputs)
    x = L.Conv2D(6, 1, name="c")(L.Add()([x, y]))
    return keras.Model(inputs, L.Conv2D(2, 1, name="out")(x))


@pytest.mark.parametrize("criterion", ["l1", "l2", "bn_scale"])
def test_scores_cover_every_prunable_group_and_average_one(model: Any, criterion: str) -> None:
    graph = trace(model)

    scores = importance(model, graph, criterion)

    assert {name: values.shape for name, values in scores.items()} == {"a": (4,), "c": (6,)}
    for values in scores.values():
        assert values.mean() == pytest.approx(1)


@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_every_producer_of_a_residual_stream_counts_however_large_its_weights(model: Any, criterion: str) -> None:
    a, b = np.ones((1, 1, 3, 4)), 1000 * np.ones((1, 1, 3, 4))
    a[..., 2], b[..., 1] = 3, 3000
    model.get_layer("a").kernel.assign(a)
    model.get_layer("b").kernel.assign(b)

    scores = importance(model, trace(model), criterion)["a"]

    assert scores == pytest.approx([2 / 3, 4 / 3, 4 / 3, 2 / 3])


def test_bn_scale_ranks_by_the_absolute_scale_and_falls_back_to_the_kernel(model: Any) -> None:
    model.get_layer("norm").gamma.assign([1.0, -3.0, 2.0, 2.0])
    graph = trace(model)

    scores = importance(model, graph, "bn_scale")

    assert scores["a"] == pytest.approx([0.5, 1.5, 1, 1])
    np.testing.assert_array_equal(scores["c"], importance(model, graph, "l2")["c"])


def test_an_unknown_criterion_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match=r"criterion is one of l1, l2, outgoing, bn_scale, .*; got 'size'"):
        importance(model, trace(model), "size")


def test_weights_that_are_not_finite_are_refused_by_name(model: Any) -> None:
    model.get_layer("c").kernel.assign(np.full((1, 1, 4, 6), np.nan))

    with pytest.raises(ValueError, match="the values of c by l2 are not finite"):
        importance(model, trace(model), "l2")
