"""The one door from Keras 3 to tf_keras (Keras 2).

tfmot quantizes and sparsifies Keras 2 models only; models are trained and pruned in Keras 3, on any backend.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tf_keras

from slimcam.compression.errors import UnsupportedLayerError, UntraceableModelError
from slimcam.compression.layers.activations import ACTIVATIONS, activation_spec
from slimcam.compression.layers.spec import Counterpart
from slimcam.compression.layers.table import LAYERS, layer_spec


def to_tf_keras(model: keras.Model) -> tf_keras.Model:
    """Rebuilds a functional Keras 3 model as a tf_keras model that computes the same.

    Layer names, weights, shared layers, `trainable` flags, regularizers and the structure (list, dict) of inputs and
    outputs are kept. Models used as layers are laid out flat, since tfmot takes no nested models. All computes in
    float32.

    Args:
        model: functional or Sequential; subclassed models hide their graph.

    Raises:
        UntraceableModelError: the model is subclassed.
        UnsupportedLayerError: a layer, or something a layer is set to, has no counterpart in tf_keras. The message
            names it.
    """
    graph = _functional(model)
    if graph is None:
        raise UntraceableModelError(
            f"model '{model.name}' is a {type(model).__name__}: a functional or Sequential model was expected, "
            f"since a subclassed model does not show its graph; rebuild it with keras.Model(inputs, outputs)"
        )
    inputs = keras.tree.map_structure(
        lambda x: tf_keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), graph._inputs_struct
    )
    outputs = graph._run_through_graph(inputs, operation_fn=_Counterparts())
    return tf_keras.Model(inputs, outputs, name=model.name)


def adopt_weights(model: keras.Model, twin: tf_keras.Model) -> None:
    """Gives a Keras 3 model the weights of the tf_keras model that `to_tf_keras` made of it, trained since.

    Args:
        model: flat, in normal form; changed in place.
        twin: with the same layers, by name.

    Raises:
        UnsupportedLayerError: a layer's counterpart is several layers, whose weights are not those of the layer.
    """
    theirs = {layer.name: layer for layer in twin.layers}
    for layer in model.layers:
        if not layer.weights:
            continue
        spec = layer_spec(layer)
        if layer.name not in theirs or spec is None or not isinstance(spec.keras2, Counterpart):
            raise UnsupportedLayerError(
                f"layer '{layer.name}' ({type(layer).__name__}) is another in tf_keras, so that what it learns there "
                "cannot be taken back; build the model from layers that Keras 2 has too"
            )
        values = {_own_name(weight): weight.numpy() for weight in theirs[layer.name].weights}
        for weight in layer.weights:
            weight.assign(values[spec.keras2.weights.get(weight.name, weight.name)])


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
        spec = layer_spec(operation)
        counterpart = None if spec is None else spec.keras2
        if isinstance(counterpart, Counterpart):
            return _counterpart_layer(operation, counterpart)
        if counterpart is not None:
            return counterpart(operation)
        if isinstance(operation, keras.layers.Layer):
            raise UnsupportedLayerError(
                f"layer '{operation.name}' ({type(operation).__name__}) has no counterpart in tf_keras; build the "
                "model from layers that Keras 2 has too, or register one (compression.register_layer)"
            )
        operators = [name.removeprefix("ops.") for name in LAYERS if name.startswith("ops.") and LAYERS[name].keras2]
        raise UnsupportedLayerError(
            f"operation '{operation.name}' ({type(operation).__name__}) has no counterpart in tf_keras; "
            f"express it with a layer, or with one of {', '.join(sorted(operators))}"
        )


def _functional(operation: Any) -> Any:
    """The graph of a functional or Sequential model, None for everything else."""
    if isinstance(operation, keras.Sequential):
        return operation._functional
    return operation if hasattr(operation, "_run_through_graph") else None


def _counterpart_layer(layer: keras.layers.Layer, counterpart: Counterpart) -> Callable[..., Any]:
    kind = getattr(tf_keras.layers, type(layer).__name__)
    twin = kind.from_config(_counterpart_config(layer, kind, counterpart))
    weights_copied = False

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal weights_copied
        # Keras records the default of `training`, which would hold in training and inference alike.
        given = {name: value for name, value in kwargs.items() if value is not None and name != "training"}
        result = twin(*args, **given)
        if not weights_copied:
            _copy_weights(layer, twin, counterpart.weights)
            weights_copied = True
        return result

    return call


def _counterpart_config(layer: keras.layers.Layer, kind: type, counterpart: Counterpart) -> dict[str, Any]:
    config = layer.get_config()
    known = _arguments(kind)
    defaults = inspect.signature(type(layer).__init__).parameters
    for name, value in config.items():
        dropped = name not in known and name not in counterpart.options.values() and name in defaults
        if dropped and value not in (defaults[name].default, "channels_last"):
            raise UnsupportedLayerError(f"layer '{layer.name}' sets {name}, which tf_keras does not have")
    config |= {theirs: config[ours] for theirs, ours in counterpart.options.items()}
    # The weights are copied, so what once initialized them does not matter.
    config = {name: value for name, value in config.items() if name in known and not name.endswith("_initializer")}
    for name, value in config.items():
        if name == "activation":
            config[name] = _activation(layer)
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
        raise UnsupportedLayerError(
            f"layer '{layer}' uses {value.get('module')}.{value['class_name']}, which has no counterpart in tf_keras"
        )
    return kind.from_config(value["config"])


def _activation(layer: keras.layers.Layer) -> Any:
    counterpart = activation_spec(layer.activation).keras2
    if counterpart is None:
        name = getattr(layer.activation, "__name__", str(layer.activation))
        known = ", ".join(sorted(name for name, spec in ACTIVATIONS.items() if spec.keras2 is not None))
        raise UnsupportedLayerError(
            f"layer '{layer.name}' has activation {name!r}, which has no counterpart in tf_keras; known: {known}"
        )
    return counterpart


def _copy_weights(source: keras.layers.Layer, target: tf_keras.layers.Layer, renamed: Mapping[str, str]) -> None:
    values = {renamed.get(weight.name, weight.name): keras.ops.convert_to_numpy(weight) for weight in source.weights}
    wanted = [_own_name(weight) for weight in target.weights]
    if sorted(values) != sorted(wanted):
        raise UnsupportedLayerError(
            f"layer '{source.name}' ({type(source).__name__}) has the weights {sorted(values)}, "
            f"its counterpart in tf_keras {sorted(wanted)}"
        )
    target.set_weights([values[name] for name in wanted])


def _own_name(weight: Any) -> str:
    """The name of a tf_keras weight in its layer."""
    return str(weight.name.split("/")[-1].split(":")[0])
