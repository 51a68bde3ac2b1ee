"""Penalties that make whole channels small while a model trains, so that a cut costs less afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from slimcam.compression.errors import CompressionError
from slimcam.compression.keras_graph import functional
from slimcam.compression.layers.table import layer_spec
from slimcam.compression.layers.weights import weight
from slimcam.compression.pruning.config import Penalty
from slimcam.compression.pruning.graph import ChannelGraph


@keras.saving.register_keras_serializable("slimcam")
class GroupLasso(keras.regularizers.Regularizer):  # type: ignore[misc]
    """The Euclidean norms of the slices along an axis, each times the root of its number of weights.

    Wen et al. 2016, "Learning Structured Sparsity in Deep Neural Networks", https://arxiv.org/abs/1608.03665, eq. 2.

    Attributes:
        strength: Weight of the penalty in the loss.
        axis: Axis whose slices become small as a whole.
    """

    def __init__(self, strength: float, axis: int) -> None:
        self.strength, self.axis = strength, axis

    def __call__(self, kernel: Any) -> Any:
        others = [axis for axis in range(len(kernel.shape)) if axis != self.axis]
        size = math.prod(kernel.shape[axis] for axis in others)
        # The root's gradient is infinite at 0.
        norms = keras.ops.sqrt(keras.ops.sum(keras.ops.square(kernel), axis=others) + 1e-12)
        return self.strength * math.sqrt(size) * keras.ops.sum(norms)

    def get_config(self) -> dict[str, Any]:
        return {"strength": self.strength, "axis": self.axis}


@contextmanager
def penalized(model: Any, graph: ChannelGraph, penalty: str, strength: float) -> Iterator[None]:
    """Within, training a copy of the model that is made of its layers' configurations shrinks channels.

    `group_lasso` shrinks the kernels that compute a channel, `bn_scale` its scales of batch normalization (Liu et al.
    2017, "Learning Efficient Convolutional Networks through Network Slimming", https://arxiv.org/abs/1708.06519).

    Args:
        model: Keras 3 model; what it computes does not change.
        graph: the model's, from `trace`; channels that must stay are left alone.
        penalty: `group_lasso` or `bn_scale`.
        strength: weight of the penalty in the loss.

    Raises:
        CompressionError: the model has nothing that the penalty is for.
    """
    layers = {layer.name: layer for layer in functional(model).layers}
    chosen: dict[tuple[str, str], Any] = {}
    for group in graph.prunable:
        for each in group.slices:
            if penalty == Penalty.BN_SCALE and each.weight == "gamma":
                chosen[each.layer, "gamma_regularizer"] = (each.weight, keras.regularizers.L1(strength))
            elif (
                penalty == Penalty.GROUP_LASSO
                and each.produces
                and (option := _option(layers[each.layer], each.weight))
            ):
                chosen[each.layer, option] = (each.weight, GroupLasso(strength, each.axis))
    if not chosen:
        raise CompressionError(f"sparse.penalty={penalty}: {model.name} has no channels that it is for")
    before = {(name, option): getattr(layers[name], option) for name, option in chosen}
    try:
        for (name, option), (of, regularizer) in chosen.items():
            setattr(layers[name], option, regularizer)
            weight(layers[name], of).regularizer = regularizer
        yield
    finally:
        for (name, option), (of, _) in chosen.items():
            setattr(layers[name], option, before[name, option])
            weight(layers[name], of).regularizer = before[name, option]


def _option(layer: Any, name: str) -> str | None:
    """The layer's option that holds the regularizer of a kernel."""
    spec = layer_spec(layer)
    options = (
        {kernel.name: kernel.initializer.replace("initializer", "regularizer") for kernel in spec.kernels}
        if spec
        else {}
    )
    found = options.get(name)
    return found if found is not None and hasattr(layer, found) else None
