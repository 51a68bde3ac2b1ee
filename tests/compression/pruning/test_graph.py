from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from slimcam.compression.pruning.graph import ChannelGraph, trace
from slimcam.compression.pruning.groups import Group

L = keras.layers


def model_of(build: Any, shape: tuple[int, ...] = (8, 8, 3)) -> Any:
    inputs = keras.Input(shape, name="image")
    return keras.Model(inputs, build(inputs))


def group(graph: ChannelGraph, name: str) -> Group:
    return next(group for group in graph.groups if group.name == name)


def sliced(found: Group) -> set[tuple[str, str, int]]:
    return {(each.layer, each.weight, each.axis) for each in found.slices}


def test_a_convolution_and_its_reader_share_a_group() -> None:
    def build(x: Any) -> Any:
        return L.Conv2D(2, 1, name="out")(L.Conv2D(8, 3, name="first")(x))

    first = group(trace(model_of(build)), "first")

    assert first.size == 8
    assert first.prunable
    assert sliced(first) == {("first", "kernel", 3), ("first", "bias", 0), ("out", "kernel", 2)}
    assert [each.layer for each in first.slices if each.produces] == ["first"]


def test_batch_normalization_and_depthwise_convolution_carry_the_group_on() -> None:
    def build(x: Any) -> Any:
        x = L.BatchNormalization(name="norm")(L.Conv2D(8, 3, use_bias=False, name="first")(x))
        x = L.DepthwiseConv2D(3, use_bias=False, name="depthwise")(x)
        return L.Conv2D(2, 1, use_bias=False, name="out")(x)

    first = group(trace(model_of(build)), "first")

    assert sliced(first) == {
        ("first", "kernel", 3),
        ("norm", "gamma", 0),
        ("norm", "beta", 0),
        ("norm", "moving_mean", 0),
        ("norm", "moving_variance", 0),
        ("depthwise", "kernel", 2),
        ("out", "kernel", 2),
    }


def test_a_residual_sum_unites_its_producers() -> None:
    def build(x: Any) -> Any:
        x = L.Conv2D(8, 1, name="stem")(x)
        inner = L.Conv2D(4, 1, name="inner")(x)
        x = L.Add()([x, L.Conv2D(8, 1, name="back")(inner)])
        return L.Conv2D(2, 1, name="out")(x)

    graph = trace(model_of(build))

    assert group(graph, "stem").producers == ("stem", "back")
    assert {found.name for found in graph.prunable} == {"stem", "inner"}


def test_only_channels_inside_a_block_are_within_it() -> None:
    def build(x: Any) -> Any:
        x = L.Conv2D(8, 1, name="stem")(x)
        block = L.Conv2D(8, 1, name="back")(L.Conv2D(4, 1, name="inside")(x))
        x = L.Add()([L.Conv2D(8, 1, name="shortcut")(x), block])
        x = L.Conv2D(6, 1, name="between")(x)
        return L.Conv2D(2, 1, name="out")(x)

    graph = trace(model_of(build))

    assert {found.name for found in graph.prunable if found.within_block} == {"inside"}


def test_a_squeeze_and_excitation_gate_is_no_residual_stream() -> None:
    def build(x: Any) -> Any:
        x = L.Conv2D(8, 1, name="stem")(x)
        wide = L.Conv2D(6, 1, name="wide")(x)
        gate = L.Conv2D(2, 1, name="squeeze")(L.GlobalAveragePooling2D(keepdims=True)(wide))
        wide = L.Multiply()([wide, L.Conv2D(6, 1, activation="sigmoid", name="excite")(gate)])
        return L.Conv2D(2, 1, name="out")(L.Add()([x, L.Conv2D(8, 1, name="back")(wide)]))

    found = group(trace(model_of(build)), "wide")

    assert found.producers == ("wide", "excite")
    assert found.within_block


def test_concatenation_keeps_groups_apart_and_joins_their_positions() -> None:
    def build(x: Any) -> Any:
        joined = L.Concatenate()([L.Conv2D(3, 1, name="a")(x), L.Conv2D(5, 1, name="b")(x)])
        return L.Conv2D(2, 1, name="out")(joined)

    graph = trace(model_of(build))

    (in_out,) = [each for each in group(graph, "b").slices if each.layer == "out"]
    assert in_out.positions.tolist() == [3, 4, 5, 6, 7]
    assert in_out.channels.tolist() == [0, 1, 2, 3, 4]


def test_one_layers_channels_fall_into_two_groups_where_others_join_them_in_part() -> None:
    def build(x: Any) -> Any:
        joined = L.Concatenate()([L.Conv2D(3, 1, name="a")(x), L.Conv2D(5, 1, name="b")(x)])
        return L.Conv2D(2, 1, name="out")(L.Add()([L.Conv2D(8, 1, name="whole")(x), joined]))

    graph = trace(model_of(build))

    assert sorted((found.producers, found.size) for found in graph.prunable) == [
        (("a", "whole"), 3),
        (("b", "whole"), 5),
    ]


def test_flatten_repeats_channels_over_the_positions() -> None:
    def build(x: Any) -> Any:
        return L.Dense(2, name="out")(L.Flatten()(L.Conv2D(3, 1, name="first")(x)))

    (in_out,) = [c for c in group(trace(model_of(build, (2, 2, 3))), "first").slices if c.layer == "out"]

    assert in_out.channels.tolist() == [0, 1, 2] * 4


def test_a_shared_layer_unites_what_it_reads() -> None:
    def build(x: Any) -> Any:
        shared = L.Conv2D(4, 1, name="shared")
        a, b = shared(L.Conv2D(6, 1, name="a")(x)), shared(L.Conv2D(6, 1, name="b")(x))
        return L.Conv2D(2, 1, name="out")(L.Concatenate()([a, b]))

    graph = trace(model_of(build))

    assert group(graph, "a").producers == ("a", "b")
    assert group(graph, "shared").size == 4


def test_model_outputs_stay() -> None:
    found = group(trace(model_of(lambda x: L.Conv2D(4, 1, name="out")(x))), "out")

    assert not found.prunable
    assert found.frozen == "model output"


@pytest.mark.parametrize(
    "unknown",
    [
        L.Lambda(lambda x: x[..., ::2], output_shape=(8, 8, 2), name="unknown"),
        L.Lambda(lambda x: x[..., ::-1], output_shape=(8, 8, 4), name="unknown"),
    ],
)
def test_unknown_layers_freeze_what_they_touch(unknown: Any) -> None:
    def build(x: Any) -> Any:
        x = unknown(L.Conv2D(4, 1, name="first")(x))
        return L.Conv2D(2, 1, name="out")(L.Conv2D(6, 1, name="later")(x))

    graph = trace(model_of(build))

    assert "unknown" in group(graph, "first").frozen
    assert [found.name for found in graph.prunable] == ["later"]


def test_a_softmax_over_channels_freezes_them() -> None:
    graph = trace(model_of(lambda x: L.Conv2D(2, 1)(L.Conv2D(4, 1, activation="softmax", name="attention")(x))))

    assert "mixes channels" in group(graph, "attention").frozen


def test_a_reshape_over_two_axes_prunes_along_the_longer_one() -> None:
    def build(x: Any) -> Any:
        x = L.Reshape((8, 8, 2, 4))(L.Conv2D(8, 1, name="first")(x))
        return L.Dense(2, name="out")(L.Flatten()(x))

    found = group(trace(model_of(build)), "first")

    assert (found.size, found.prunable) == (4, True)
    (made,) = [each for each in found.slices if (each.layer, each.weight) == ("first", "kernel")]
    assert made.channels.tolist() == [0, 1, 2, 3] * 2


def test_a_reshape_that_mixes_channels_with_positions_freezes_them() -> None:
    def build(x: Any) -> Any:
        x = L.Reshape((7, 8, 8))(L.Conv2D(7, 1, name="first")(x))
        return L.Dense(2)(L.Conv2D(4, 1)(x))

    assert "several axes" in group(trace(model_of(build)), "first").frozen


def test_channels_first_is_traced_along_axis_one() -> None:
    def build(x: Any) -> Any:
        x = L.Conv2D(4, 3, data_format="channels_first", name="first")(x)
        x = L.BatchNormalization(axis=1, name="norm")(x)
        x = L.Flatten(data_format="channels_first")(L.MaxPooling2D(2, data_format="channels_first")(x))
        return L.Dense(2, name="out")(x)

    found = group(trace(model_of(build, (3, 8, 8))), "first")

    assert found.prunable
    assert ("norm", "gamma", 0) in sliced(found)
    (in_out,) = [each for each in found.slices if each.layer == "out"]
    assert in_out.channels.tolist() == [0, 1, 2, 3] * 9


def test_grouped_convolutions_keep_as_many_channels_in_each_group() -> None:
    def build(x: Any) -> Any:
        x = L.Conv2D(8, 1, name="first")(x)
        return L.Conv2D(2, 1, name="out")(L.Conv2D(12, 3, groups=4, name="grouped")(x))

    graph = trace(model_of(build))

    assert [(found.size, found.blocks) for found in graph.prunable] == [(8, 4), (12, 4)]
    assert [found.step(8) for found in graph.prunable] == [8, 8]
    assert [found.step(1) for found in graph.prunable] == [4, 4]


def test_groups_that_others_mix_keep_the_same_channels() -> None:
    def build(x: Any) -> Any:
        x = L.Conv2D(8, 3, groups=2, name="grouped")(L.Conv2D(6, 1)(x))
        x = L.Permute((1, 2, 4, 3))(L.Reshape((6, 6, 2, 4))(x))
        return L.Conv2D(2, 1, name="out")(L.Reshape((6, 6, 8))(x))

    found = group(trace(model_of(build)), "grouped")

    assert (found.size, found.blocks) == (4, 1)
    assert found.step(8) == 4


def test_a_convolution_with_a_group_for_each_channel_is_depthwise() -> None:
    def build(x: Any) -> Any:
        x = L.Conv2D(12, 3, groups=6, name="depthwise")(L.Conv2D(6, 1, name="first")(x))
        return L.Conv2D(2, 1, name="out")(x)

    graph = trace(model_of(build))

    assert [found.name for found in graph.prunable] == ["first"]
    assert ("depthwise", "kernel", 3) in sliced(graph.prunable[0])


def test_each_output_of_a_split_keeps_channels_of_its_own() -> None:
    def build(x: Any) -> Any:
        a, b = keras.ops.split(L.Conv2D(8, 1, name="first")(x), [3], axis=-1)
        return L.Conv2D(2, 1)(L.Concatenate()([b, a]))

    assert [found.size for found in trace(model_of(build)).prunable] == [3, 5]


def test_heads_of_attention_are_channels() -> None:
    def build(x: Any) -> Any:
        x = L.Dense(16, name="embed")(x)
        return L.Dense(2)(L.MultiHeadAttention(4, 5, name="attention")(x, x))

    graph = trace(model_of(build, (7, 3)))

    found = [(found.name, found.size) for found in graph.prunable]
    assert found == [("embed", 16), ("attention/heads", 4), ("attention", 16)]


def test_a_sequential_model_is_traced() -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 1, name="first"), L.Conv2D(2, 1)])

    assert [found.name for found in trace(model).prunable] == ["first"]


def test_a_model_inside_a_model_is_refused_by_name() -> None:
    inner = model_of(lambda x: L.Conv2D(4, 1)(x))
    inner.name = "backbone"

    with pytest.raises(ValueError, match="cannot be traced: its layer 'backbone' is itself a model"):
        trace(model_of(lambda x: L.Conv2D(2, 1)(inner(x))))


def test_a_subclassed_model_is_refused() -> None:
    class Own(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(ValueError, match="expected a functional or a built sequential"):
        trace(Own())


def test_positions_and_channels_of_every_each_fit_the_weight() -> None:
    model = keras.applications.MobileNetV2(alpha=0.35, weights=None, input_shape=(32, 32, 3), include_top=False)
    layers = {layer.name: layer for layer in model.layers}

    for found in trace(model).groups:
        for each in found.slices:
            weight = next(weight for weight in layers[each.layer].weights if weight.name == each.weight)
            assert each.positions.max() < weight.shape[each.axis]
            assert np.unique(each.channels).tolist() == list(range(found.size))
