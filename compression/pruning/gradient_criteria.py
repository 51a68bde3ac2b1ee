"""Criteria that judge channels by gradients: what the loss, or the output, would change without them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.errors import CompressionError
from slimcam.compression.keras_graph import functional
from slimcam.compression.layers.weights import weight
from slimcam.compression.pruning.graph import ChannelGraph
from slimcam.compression.pruning.samples import Inputs, Samples, inputs_of, labeled_of
from slimcam.compression.pruning.weight_criteria import by_channel, filters_of, producing

Float = NDArray[np.float64]
Values = dict[str, Float]

_SEED = 0


def taylor(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:
    """The change of the loss to first order if the weights of a channel were zero, absolute, mean over batches.

    Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", https://arxiv.org/abs/1906.10771, eq. 8.
    """
    batches, loss = labeled_of(samples, "taylor")

    def change(filters: Float, gradient: Float) -> Float:
        return np.asarray(np.abs((filters * gradient).sum(axis=1)))

    return _mean_over_batches(model, graph, _of_loss(batches, loss), change)


def fisher(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:
    """The change of the loss to second order, the Hessian's diagonal taken to be that of the empirical Fisher matrix.

    Half the squared weights times the squared gradients, mean over batches (Theis et al. 2018, "Faster gaze prediction
    with dense networks and Fisher pruning", https://arxiv.org/abs/1801.05787, eq. 8).
    """
    batches, loss = labeled_of(samples, "fisher")
    return _mean_over_batches(model, graph, _of_loss(batches, loss), _second_order)


def hessian(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:
    """The same of the squared change of the outputs, which needs no labels.

    The diagonal of the Gauss-Newton Hessian, estimated by random projections of the outputs (Hutchinson 1990), as in
    Sony's Model Compression Toolkit (https://github.com/sony/model_optimization, structured pruning).
    """
    rng = np.random.default_rng(_SEED)

    def projected() -> Iterator[tuple[Inputs, Callable[[Any], Any]]]:
        for inputs in inputs_of(samples, "hessian"):
            shapes = [(len(inputs), *output.shape[1:]) for output in functional(model).outputs]
            directions = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]

            def projection(outputs: Any, directions: list[Any] = directions) -> Any:
                pairs = zip(keras.tree.flatten(outputs), directions, strict=True)
                return sum(keras.ops.sum(output * direction) for output, direction in pairs) / len(directions[0]) ** 0.5

            yield inputs, projection

    return _mean_over_batches(model, graph, projected(), _second_order)


def gradients(model: Any, weights: list[Any], objective: Callable[[Any], Any], inputs: Inputs) -> list[NDArray[Any]]:
    """The gradient of `objective(outputs)` by each of the weights; the model computes as in inference.

    Raises:
        CompressionError: Keras runs on a backend other than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise CompressionError(
            f"criteria that need gradients run on TensorFlow, and Keras is on {keras.backend.backend()}: set "
            "backend=tensorflow, or take a criterion that needs none"
        )
    import tensorflow as tf

    variables = [each.value for each in weights]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        value = objective(model([inputs] if isinstance(model.input, list) else inputs, training=False))
    found = tape.gradient(value, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [np.asarray(each) for each in found]


def _of_loss(
    batches: Iterator[tuple[Inputs, Any]], loss: Callable[[Any, Any], Any]
) -> Iterator[tuple[Inputs, Callable[[Any], Any]]]:
    for inputs, truth in batches:

        def mean(outputs: Any, truth: Any = truth) -> Any:
            return keras.ops.mean(loss(truth, outputs))

        yield inputs, mean


def _second_order(filters: Float, gradient: Float) -> Float:
    return np.asarray(0.5 * (filters**2 * gradient**2).sum(axis=1))


def _mean_over_batches(
    model: Any,
    graph: ChannelGraph,
    objectives: Iterator[tuple[Inputs, Callable[[Any], Any]]],
    value: Callable[[Float, Float], Float],
) -> Values:
    """The mean of `value(filters, gradient)` of each slice that computes a group's channels, a row each."""
    layers = {layer.name: layer for layer in functional(model).layers}
    slices = {group.name: producing(group) for group in graph.prunable}
    weights = {
        (each.layer, each.weight): weight(layers[each.layer], each.weight)
        for found in slices.values()
        for each in found
    }
    values = {key: keras.ops.convert_to_numpy(variable) for key, variable in weights.items()}
    sums: dict[str, Any] = defaultdict(float)
    count = 0
    for inputs, objective in objectives:
        gradient = dict(zip(weights, gradients(model, list(weights.values()), objective, inputs), strict=True))
        count += 1
        for group in graph.prunable:
            sums[group.name] += np.stack(
                [
                    by_channel(
                        each,
                        value(
                            filters_of(each, values[each.layer, each.weight]),
                            filters_of(each, gradient[each.layer, each.weight]),
                        ),
                        group.size,
                    )
                    for each in slices[group.name]
                ]
            )
    return {name: total / count for name, total in sums.items()}
