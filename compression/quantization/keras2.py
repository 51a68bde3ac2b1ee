"""The one door from Keras 3 to tf_keras (Keras 2).

tfmot quantises and sparsifies Keras 2 models only; models are trained and pruned in Keras 3, on any backend.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tf_keras


def to_tf_keras(model: keras.Model) -> tf_keras.Model:
    """Rebuilds a functional Keras 3 model as a tf_keras model that computes the same.

    Layer names, weights, shared layers, `trainable` flags, regularizers and the structure (list, dict) of inputs and
    outputs are kept. Models used as layers are laid out flat, since tfmot takes no nested models. All computes in
    float32.

    Args:
        model: functional or Sequential; subclassed models hide their graph.

    Raises:
        ValueError: a layer, or something a layer is set to, has no counterpart in tf_keras. The message names it.
    """
    graph = _functional(model)
    if graph is None:
        raise ValueError(
            f"model '{model.name}' is a {type(model).__name__}: a functional or Sequential model was expected, "
            f"since a subclassed model does not show its graph; rebuild it with keras.Model(inputs, outputs)"
        )
    inputs = keras.tree.map_structure(
        lambda x: tf_keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), graph._inputs_struct
    )
    outputs = graph._run_through_graph(inputs, operation_fn=_Counterparts())
    return tf_keras.Model(inputs, outputs, name=model.name)


class _Counterparts:
    """Gives for each operation of a Keras 3 graph the callable that stands for it on tf_keras tensors."""

    def __init__(self) -> None:
        # Keyed by the operation itself, so that a layer used twice stays one layer.
        self._known: dict[int, Callable[..., Any]] = {}

    def __call__(self, operation: Any) -> Callable[..., Any]:
        if id(operation) not in self._known:
            self._known[id(operation)] = self._make(operation)
        return self._known[id(operation)]

    def _make(self, operation: Any) -> Callable[..., Any]:
        nested = _functional(operation)
        if nested is not None:
            return lambda *args, **_: nested._run_through_graph(args, operation_fn=self)
        if isinstance(operation, keras.layers.Layer):
            return _counterpart_layer(operation)
        function = _OPERATORS.get(type(operation).__name__)
        if function is None:
            raise ValueError(
                f"operation '{operation.name}' ({type(operation).__name__}) has no counterpart in tf_keras; "
                f"express it with a layer, or with one of {', '.join(sorted(_OPERATORS))}"
            )
        return function


def _functional(operation: Any) -> Any:
    """The graph of a functional or Sequential model, None for everything else."""
    if isinstance(operation, keras.Sequential):
        return operation._functional
    return operation if hasattr(operation, "_run_through_graph") else None


def _counterpart_layer(layer: keras.layers.Layer) -> Callable[..., Any]:
    kind = getattr(tf_keras.layers, type(layer).__name__, None)
    if kind is None or not type(layer).__module__.startswith("keras."):
        raise ValueError(
            f"layer '{layer.name}' ({type(layer).__name__}) has no counterpart in tf_keras; "
            f"build the model from layers that Keras 2 has too"
        )
    twin = kind.from_config(_counterpart_config(layer, kind))
    weights_copied = False

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal weights_copied
        result = twin(*args, **{name: value for name, value in kwargs.items() if value is not None})
        if not weights_copied:
            _copy_weights(layer, twin)
            weights_copied = True
        return result

    return call


def _counterpart_config(layer: keras.layers.Layer, kind: type) -> dict[str, Any]:
    config = layer.get_config()
    if isinstance(layer, keras.layers.LeakyReLU):
        config["alpha"] = config["negative_slope"]
    if config.get("rms_scaling"):
        raise ValueError(f"layer '{layer.name}' sets rms_scaling, which tf_keras does not have")
    known = _arguments(kind)
    # The weights are copied, so what once initialized them does not matter.
    config = {name: value for name, value in config.items() if name in known and not name.endswith("_initializer")}
    for name, value in config.items():
        if name == "activation":
            config[name] = _activation(value, layer.name)
        elif name.endswith(("_regularizer", "_constraint")):
            config[name] = _translate(value, layer.name)
    return {**config, "name": layer.name, "trainable": layer.trainable, "dtype": "float32"}


def _arguments(kind: type) -> set[str]:
    """Names of the constructor's arguments, those of the base classes included (Keras 2 passes them on as **kwargs)."""
    return {
        name
        for base in kind.__mro__
        if base is not object
        for name in inspect.signature(base.__init__).parameters  # type: ignore[misc]
    }


def _translate(value: Any, layer: str) -> Any:
    """Turns a serialized regularizer or constraint of Keras 3 into the tf_keras object of the same name."""
    if value is None:
        return None
    package = str(value.get("module", "")).removeprefix("keras.")
    kind = getattr(getattr(tf_keras, package, None), value["class_name"], None)
    if kind is None:
        raise ValueError(
            f"layer '{layer}' uses {value.get('module')}.{value['class_name']}, which has no counterpart in tf_keras"
        )
    return kind.from_config(value["config"])


def _activation(name: Any, layer: str) -> Any:
    if name is None or (isinstance(name, str) and name in _SAME_ACTIVATIONS):
        return name
    if not isinstance(name, str) or name not in _OTHER_ACTIVATIONS:
        known = ", ".join(sorted(_SAME_ACTIVATIONS | set(_OTHER_ACTIVATIONS)))
        raise ValueError(
            f"layer '{layer}' has activation {name!r}, which has no counterpart in tf_keras; known: {known}"
        )
    return _OTHER_ACTIVATIONS[name]


def _copy_weights(source: keras.layers.Layer, target: tf_keras.layers.Layer) -> None:
    renamed = {"kernel": "depthwise_kernel"} if isinstance(source, keras.layers.DepthwiseConv2D) else {}
    values = {renamed.get(weight.name, weight.name): keras.ops.convert_to_numpy(weight) for weight in source.weights}
    wanted = [weight.name.split("/")[-1].split(":")[0] for weight in target.weights]
    if sorted(values) != sorted(wanted):
        raise ValueError(
            f"layer '{source.name}' ({type(source).__name__}) has the weights {sorted(values)}, "
            f"its counterpart in tf_keras {sorted(wanted)}"
        )
    target.set_weights([values[name] for name in wanted])


def _hard_sigmoid(x: tf.Tensor) -> tf.Tensor:
    """Keras 3's, which differs from the 0.2 x + 0.5 of Keras 2."""
    return tf.nn.relu6(x + 3.0) / 6.0


def _hard_silu(x: tf.Tensor) -> tf.Tensor:
    return x * _hard_sigmoid(x)


def _leaky_relu(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.leaky_relu(x, alpha=0.2)


_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Subtract": operator.sub,
    "Multiply": operator.mul,
    "TrueDivide": operator.truediv,
    "Divide": operator.truediv,
    "GetItem": operator.getitem,
}
_SAME_ACTIVATIONS = frozenset(
    [
        "elu",
        "exponential",
        "gelu",
        "linear",
        "mish",
        "relu",
        "selu",
        "sigmoid",
        "softmax",
        "softplus",
        "softsign",
        "tanh",
    ]
)
_OTHER_ACTIVATIONS: dict[str, Any] = {
    "silu": "swish",
    "relu6": tf.nn.relu6,
    "leaky_relu": _leaky_relu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_silu,
    "hard_swish": _hard_silu,
}
