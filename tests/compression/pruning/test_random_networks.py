"""Random networks of all constructs under random plans: cut, masked, saved, and met by another network's plan."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcam.compression.errors import PlanError
from slimcam.compression.pruning.config import PruningRatioConfig
from slimcam.compression.pruning.cost import cost
from slimcam.compression.pruning.graph import ChannelGraph, trace
from slimcam.compression.pruning.plan import PruningPlan, plan
from slimcam.compression.pruning.surgery import cut, mask
from tests.compression.pruning.test_surgery import randomize

L, ops = keras.layers, keras.ops
SIDE = 4
Step = tuple[str, int, int, int, int]
"""A construct, the places of the tensors that it reads, a number of channels, and a size."""


def divisor(channels: int, wanted: int) -> int:
    return next(each for each in range(min(wanted, channels), 0, -1) if channels % each == 0)


def as_wide(x: Any, y: Any) -> Any:
    return x if x.shape[-1] == y.shape[-1] else L.Conv2D(y.shape[-1], 1)(x)


def gate(x: Any, y: Any, filters: int, size: int) -> Any:
    squeezed = L.Dense(filters, activation="relu")(L.GlobalAveragePooling2D(keepdims=size == 1)(y))
    factors = L.Dense(x.shape[-1], activation="sigmoid")(squeezed)
    return x * factors if size == 1 else L.Multiply()([x, L.Reshape((1, 1, x.shape[-1]))(factors)])


def flattened(x: Any, y: Any, filters: int, size: int) -> Any:  # noqa: ARG001
    flat = L.Dense(filters)(L.Flatten()(L.MaxPooling2D(2)(x)))
    return L.Multiply()([L.Conv2D(filters, 1)(y), L.Reshape((1, 1, filters))(flat)])


def split(x: Any, y: Any, filters: int, size: int) -> Any:  # noqa: ARG001
    border = max(1, min(filters, x.shape[-1] - 1))
    return ops.split(x, [border], axis=-1) if x.shape[-1] > 1 else x


def sliced(x: Any, y: Any, filters: int, size: int) -> Any:  # noqa: ARG001
    start = min(size, x.shape[-1] - 1)
    return x[..., start : start + filters]


def shuffled(x: Any, y: Any, filters: int, size: int) -> Any:  # noqa: ARG001
    channels = x.shape[-1]
    groups = divisor(channels, filters)
    x = L.Permute((1, 2, 4, 3))(L.Reshape((SIDE, SIDE, groups, channels // groups))(x))
    return ops.reshape(x, (-1, SIDE, SIDE, channels))


def grouped(x: Any, y: Any, filters: int, size: int) -> Any:  # noqa: ARG001
    groups = divisor(x.shape[-1], filters)
    return L.Conv2D(groups * 2, size, groups=groups, padding="same")(x)


def attention(x: Any, y: Any, filters: int, size: int) -> Any:
    rows, others = (L.Reshape((SIDE * SIDE, each.shape[-1]))(each) for each in (x, y))
    found = L.MultiHeadAttention(filters, size)(rows, others)
    return L.Reshape((SIDE, SIDE, x.shape[-1]))(found)


def stacked(x: Any, y: Any, filters: int, size: int) -> Any:  # noqa: ARG001
    return ops.unstack(ops.stack([as_wide(x, y), y], axis=size), 2, axis=size)


CONSTRUCTS: dict[str, Callable[[Any, Any, int, int], Any]] = {
    "convolution": lambda x, y, filters, size: L.Conv2D(filters, size, padding="same")(x),  # noqa: ARG005
    "batch norm": lambda x, *_: L.BatchNormalization()(x),
    "relu": lambda x, *_: L.ReLU()(x),
    "sigmoid": lambda x, *_: L.Activation("sigmoid")(x),
    "depthwise": lambda x, y, filters, size: L.DepthwiseConv2D(size, padding="same")(x),  # noqa: ARG005
    "separable": lambda x, y, filters, size: L.SeparableConv2D(filters, size, padding="same")(x),  # noqa: ARG005
    "sum": lambda x, y, *_: L.Add()([as_wide(x, y), y]),
    "concatenation": lambda x, y, *_: L.Concatenate()([x, y]),
    "gate": gate,
    "flatten": flattened,
    "split": split,
    "slice": sliced,
    "shuffle": shuffled,
    "groups": grouped,
    "layer norm": lambda x, *_: L.LayerNormalization()(x),
    "rms norm": lambda x, *_: L.RMSNormalization()(x),
    "group norm": lambda x, y, filters, size: L.GroupNormalization(divisor(x.shape[-1], filters))(x),  # noqa: ARG005
    "attention": attention,
    "stack": stacked,
}


def network(steps: list[Step], stem: int = 6) -> Any:
    """A network over a pool of tensors: each step reads one or two of them and adds what it makes."""
    inputs = keras.Input((SIDE, SIDE, 3))
    pool = [L.Conv2D(stem, 1, name="stem")(inputs)]
    for construct, first, second, filters, size in steps:
        made = CONSTRUCTS[construct](pool[first % len(pool)], pool[second % len(pool)], filters, size)
        pool.extend(keras.tree.flatten(made))
    head = L.Conv2D(4, 1)(L.Concatenate()([pool[0], *pool[-2:]]))
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(head)))


def random_plan(graph: ChannelGraph, config: PruningRatioConfig, seed: int) -> PruningPlan:
    rng = np.random.default_rng(seed)
    return plan(graph, {group.name: rng.uniform(0.5, 1.5, group.size) for group in graph.prunable}, config)


networks = st.lists(
    st.tuples(
        *(st.sampled_from(sorted(CONSTRUCTS)), st.integers(0, 9), st.integers(0, 9)),
        *(st.integers(2, 6), st.sampled_from([1, 3])),
    ),
    min_size=3,
    max_size=8,
)
configs = st.builds(
    PruningRatioConfig,
    ratio=st.floats(0.1, 0.95),
    allocation=st.sampled_from(["uniform", "global"]),
    round_to=st.sampled_from([1, 2, 4]),
)


@settings(max_examples=15, deadline=None)
@given(steps=networks, config=configs, seed=st.integers(0, 2**16))
def test_the_cut_network_equals_the_masked_one_and_what_is_saved_of_it(
    steps: list[Step], config: PruningRatioConfig, seed: int
) -> None:
    model = randomize(network(steps), seed)
    graph = trace(model)
    found = random_plan(graph, config, seed)
    small = cut(model, found, graph)
    images = np.random.default_rng(seed).normal(size=(3, SIDE, SIDE, 3)).astype(np.float32)
    given = keras.ops.convert_to_numpy(small(images, training=False))

    reasons = {group.frozen for group in graph.groups} - {"", "model input", "model output"}
    assert all("several axes" in reason for reason in reasons), reasons  # shuffles may mix all channels
    expected = keras.ops.convert_to_numpy(mask(model, found)(images, training=False))
    np.testing.assert_allclose(given, expected, atol=1e-4 * max(1.0, float(np.abs(expected).max())))
    assert cost(small).parameters <= cost(model).parameters
    with tempfile.TemporaryDirectory() as folder:
        small.save(Path(folder) / "small.keras")
        loaded = keras.saving.load_model(Path(folder) / "small.keras")
        assert PruningPlan.from_json(found.to_json()) == found
    np.testing.assert_array_equal(loaded(images, training=False), given)


@settings(max_examples=10, deadline=None)
@given(steps=networks, config=configs, seed=st.integers(0, 2**16))
def test_the_plan_of_another_network_is_refused(steps: list[Step], config: PruningRatioConfig, seed: int) -> None:
    found = random_plan(trace(network(steps)), config, seed)
    other = network(steps, stem=7)
    try:
        cut(other, found)
    except PlanError:
        return
    raise AssertionError("the plan of a network with another stem was taken")
