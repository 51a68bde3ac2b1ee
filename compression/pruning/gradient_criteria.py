"""Criteria that rate channels by gradients: what the loss, or the output, would change without them.

The derivative is that by a factor of the channel, which is 1 and would become 0. It is the sum over all weights that
read the channel of the weight times its gradient: exact for residual streams, whose blocks all read it, and behind
normalization and activation, where removing a channel removes its offset too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.keras_graph import functional
from slimcam.compression.layers.weights import weight
from slimcam.compression.pruning.graph import ChannelGraph
from slimcam.compression.pruning.samples import Inputs, Samples, inputs_of, labeled_of
from slimcam.compression.pruning.weight_criteria import by_channel, filters_of

Float = NDArray[np.float64]
Values = dict[str, Float]

_SEED = 0


def taylor(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:
    """The change of the loss to first order if a channel were zero, absolute, mean over batches.

    Molchanov et al. 2017, "Pruning convolutional neural networks for resource efficient inference",
    https://arxiv.org/abs/1611.06440, eq. 7; 2019, https://arxiv.org/abs/1906.10771, eq. 8, of gates.
    """
    batches, loss = labeled_of(samples, "taylor")
    return _mean_over_batches(model, graph, _of_loss(batches, loss), np.abs)


def fisher(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:
    """The change of the loss to second order, the Hessian's diagonal taken to be that of the empirical Fisher matrix.

    Half the squared derivative, mean over batches (Theis et al. 2018, "Faster gaze prediction with dense networks and
    Fisher pruning", https://arxiv.org/abs/1801.05787, eq. 8).
    """
    batches, loss = labeled_of(samples, "fisher")
    return _mean_over_batches(model, graph, _of_loss(batches, loss), _second_order)


def hessian(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:
    """The same of the squared change of the outputs, which needs no labels.

    The diagonal of the Gauss-Newton Hessian, estimated by random projections of the outputs (Hutchinson 1990), as
    Sony's Model Compression Toolkit does by weights (https://github.com/sony/model_optimization, structured pruning).
    """
    rng = np.random.default_rng(_SEED)

    def projected() -> Iterator[tuple[Inputs, Callable[[Any], Any]]]:
        for inputs in inputs_of(samples, "hessian"):
            shapes = [(len(inputs), *output.shape[1:]) for output in functional(model).outputs]
            directions = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]

            def projection(outputs: Any, directions: list[Any] = directions) -> Any:
                pairs = zip(keras.tree.flatten(outputs), directions, strict=True)
                total = sum(keras.ops.sum(keras.ops.multiply(*pair)) for pair in pairs)
                return total / len(directions[0]) ** 0.5

            yield inputs, projection

    return _mean_over_batches(model, graph, projected(), _second_order)


def gradients(model: Any, weights: list[Any], objective: Callable[[Any], Any], inputs: Inputs) -> list[NDArray[Any]]:
    """The gradient of `objective(outputs)` by each of the weights; the model computes as in inference."""

    def value() -> Any:
        return objective(model([inputs] if isinstance(model.input, list) else inputs, training=False))

    found = _BACKENDS[keras.backend.backend()](value, weights)
    return [keras.ops.convert_to_numpy(each) for each in found]


def _by_tensorflow(value: Callable[[], Any], weights: list[Any]) -> Any:
    import tensorflow as tf

    variables = [each.value for each in weights]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        found = value()
    return tape.gradient(found, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _by_jax(value: Callable[[], Any], weights: list[Any]) -> Any:
    import jax

    def of(arrays: list[Any]) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(weights, arrays, strict=True))):
            return value()

    return jax.grad(of)([each.value for each in weights])


def _by_torch(value: Callable[[], Any], weights: list[Any]) -> Any:
    import torch

    variables = [each.value for each in weights]
    frozen = [each for each in variables if not each.requires_grad]
    try:
        for each in frozen:
            each.requires_grad_(True)
        with torch.enable_grad():
            return torch.autograd.grad(value(), variables, materialize_grads=True)
    finally:
        for each in frozen:
            each.requires_grad_(False)


_BACKENDS = {"tensorflow": _by_tensorflow, "jax": _by_jax, "torch": _by_torch}


def _of_loss(
    batches: Iterator[tuple[Inputs, Any]], loss: Callable[[Any, Any], Any]
) -> Iterator[tuple[Inputs, Callable[[Any], Any]]]:
    for inputs, truth in batches:

        def mean(outputs: Any, truth: Any = truth) -> Any:
            return keras.ops.mean(loss(truth, outputs))

        yield inputs, mean


def _second_order(derivative: Float) -> Float:
    return 0.5 * derivative**2


def _mean_over_batches(
    model: Any,
    graph: ChannelGraph,
    objectives: Iterator[tuple[Inputs, Callable[[Any], Any]]],
    value: Callable[[Float], Float],
) -> Values:
    """The mean of `value(derivative)` of each channel, `(size,)` for each prunable group."""
    layers = {layer.name: layer for layer in functional(model).layers}
    weights = {
        (each.layer, each.weight): weight(layers[each.layer], each.weight)
        for group in graph.prunable
        for each in group.reading
    }
    values = {key: keras.ops.convert_to_numpy(variable) for key, variable in weights.items()}
    sums = {group.name: np.zeros(group.size) for group in graph.prunable}
    count = 0
    for inputs, objective in objectives:
        found = gradients(model, list(weights.values()), objective, inputs)
        products = {key: values[key] * gradient for key, gradient in zip(weights, found, strict=True)}
        count += 1
        for group in graph.prunable:
            derivative = np.zeros(group.size)
            for each in group.reading:
                filters = filters_of(each, products[each.layer, each.weight])
                derivative += by_channel(each, filters.sum(axis=1), group.size)
            sums[group.name] += value(derivative)
    return {name: total / count for name, total in sums.items()}
