"""The calls of a functional Keras 3 model, in order."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from slimcam.compression.errors import UntraceableModelError


def functional(model: Any) -> Any:
    """The functional model inside a model: itself, or what a built `Sequential` wraps.

    Raises:
        UntraceableModelError: there is none.
    """
    inside = getattr(model, "_functional", None) or model
    if not isinstance(model, keras.Model) or not hasattr(inside, "_nodes_by_depth"):
        raise UntraceableModelError(
            f"{getattr(model, 'name', model)!r} cannot be traced: expected a functional or a built sequential Keras 3 "
            f"model, got {type(model).__module__}.{type(model).__name__}; build it with keras.Input(...) and "
            "keras.Model(inputs, outputs)"
        )
    return inside


@contextmanager
def deep_graphs(nodes: int) -> Iterator[None]:
    """Lets Keras make models of so many nodes in a row, which it follows by recursion, three calls a node at most."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 1000 + 3 * nodes))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def calls(model: Any) -> list[Any]:
    """The calls (Keras nodes) of a functional or sequential model in the order of computation.

    Raises:
        UntraceableModelError: the model is not functional, or a layer of it is a model itself.
    """
    nodes = ordered_nodes(functional(model))
    for node in nodes:
        if isinstance(node.operation, keras.Model):
            raise UntraceableModelError(
                f"{model.name!r} cannot be traced: its layer {node.operation.name!r} is itself a model; "
                "lay it out flat (compression.normalize)"
            )
    return nodes


def ordered_nodes(source: Any) -> list[Any]:
    """The calls of a functional model in the order of computation, those of models within it included."""
    by_depth = source._nodes_by_depth
    # Within a depth Keras lists calls backwards; in the order of the operations names and tables read as the network.
    position = {id(operation): index for index, operation in enumerate(source.operations)}
    return [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in sorted(by_depth[depth], key=lambda node: position[id(node.operation)])
    ]


def tensor_key(tensor: Any) -> str:
    """A tensor's name in a graph: its operation, the number of the call, the number of the output."""
    operation, node, index = tensor._keras_history
    return f"{operation.name}:{node}:{index}"


def constants(node: Any) -> tuple[Any, ...]:
    """What a call was given that is not a tensor of the model, flags left out."""
    return tuple(
        value
        for value in keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
        if value is not None and not isinstance(value, (keras.KerasTensor, bool))
    )


def keywords(node: Any) -> tuple[str, ...]:
    """The name under which each input tensor of a call was given; empty for those given by position."""
    return tuple(
        str(path[1]) if path[0] == 1 else ""
        for path, value in keras.tree.flatten_with_path((node.arguments.args, node.arguments.kwargs))
        if isinstance(value, keras.KerasTensor)
    )


def kind(operation: Any) -> str:
    """The name under which `slimcam.compression.layers.table` knows a layer or operation."""
    return kind_of(type(operation))


def kind_of(cls: type) -> str:
    """The name under which `slimcam.compression.layers.table` knows a class of layers or operations.

    That is the class name for Keras layers, `ops.` and the class name for Keras operations, and the registered name
    (`package>name`) for layers of others: their `Conv2D` need not be Keras's.
    """
    if cls.__module__.startswith("keras."):
        return str(cls.__name__) if issubclass(cls, keras.Layer) else f"ops.{cls.__name__}"
    registered = str(keras.saving.get_registered_name(cls))
    return registered if ">" in registered else f"{cls.__module__}.{cls.__name__}"
