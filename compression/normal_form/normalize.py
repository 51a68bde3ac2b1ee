"""The normal form of a functional Keras 3 model.

Two steps: every layer and operation is written in the layers of the normal form, by the rules in the table of layer
facts (`LayerSpec.flat`, `LayerSpec.int8`); then what is linear by channel is folded into convolutions
(`compression.normal_form.folding`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from slimcam.compression.keras_graph import functional, kind, ordered_nodes
from slimcam.compression.layers.table import layer_spec
from slimcam.compression.normal_form.folding import fold
from slimcam.compression.normal_form.parts import Change, Names, Parts, Rule, Rules, cloned


@dataclass(frozen=True)
class NormalForm:
    """An equivalent model, and how it came about.

    Attributes:
        model: Flat functional Keras 3 model with the same inputs and outputs; the given model where nothing changed.
        changes: What became of the layers that were changed, in the order of computation.
        origins: Layer of the given model, by the name of the layer in `model`.
    """

    model: Any
    changes: tuple[Change, ...]
    origins: Mapping[str, str]

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes)) or "in normal form already"


def normalize(model: Any, *, int8: bool = False) -> NormalForm:
    """Writes a model in normal form; in inference it computes what the given one does, to rounding.

    For pruning and training, models within the model are laid out flat, recorded `keras.ops` become layers, separable
    convolutions their two parts, and names unique; Identity and augmentation are left out, dropout and batch
    normalization stay. For quantization, in float32, activations become layers of their own, batch normalization and
    rescaling that no convolution precedes a 1x1 depthwise convolution, and what XNNPACK has no int8 kernel for a
    composition of what it has (average pooling, SiLU, nearest upsampling, ...).

    Layers that no rule covers stay as they are.

    Args:
        model: functional, or a built Sequential; it is not changed.
        int8: whether the form for quantization is wanted.

    Raises:
        UntraceableModelError: the model, or a model within it, is not functional.
        UnsupportedLayerError: a layer cannot be rebuilt from its configuration.
    """
    written, writing = _write(model, _int8_rule if int8 else _flat_rule, float32=int8)
    changes = writing.changes
    if int8:
        written, folded = fold(written, writing.names)
        changes = changes + folded
    if not changes:
        return NormalForm(model, (), writing.names.origins)
    if not model.trainable:
        written.trainable = False
    return NormalForm(written, tuple(changes), writing.names.origins)


def in_float32(model: Any) -> Any:
    """The model itself where it computes in float32, or else a flat one of the same layers that does.

    Raises:
        UntraceableModelError: the model is of lower precision, and not functional.
        UnsupportedLayerError: a layer cannot be rebuilt from its configuration.
    """
    layers = [layer for layer in model._flatten_layers(include_self=False) if not isinstance(layer, keras.Model)]
    if all(layer.compute_dtype not in ("float16", "bfloat16") for layer in layers):
        return model
    return _write(model, lambda _: None, float32=True)[0]


def _flat_rule(operation: Any) -> Rule | None:
    spec = layer_spec(operation)
    return None if spec is None else spec.flat


def _int8_rule(operation: Any) -> Rule | None:
    spec = layer_spec(operation)
    return None if spec is None else spec.int8 or spec.flat


def _write(model: Any, rules: Rules, *, float32: bool) -> tuple[Any, _Writing]:
    writing = _Writing(rules, float32)
    source = functional(model)
    tensors = {
        id(tensor): keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=writing.names.unique(name, name))
        for tensor, name in zip(source.inputs, (tensor._keras_history[0].name for tensor in source.inputs), strict=True)
    }
    inputs = keras.tree.map_structure(lambda tensor: tensors[id(tensor)], source.input)
    writing.run(source, tensors, "")
    outputs = keras.tree.map_structure(lambda tensor: tensors[id(tensor)], source.output)
    return keras.Model(inputs, outputs, name=model.name), writing


class _Writing:
    """Calls the layers of a model again, in normal form."""

    def __init__(self, rules: Rules, float32: bool) -> None:
        self.names = Names()
        self.changes: list[Change] = []
        self._rules = rules
        self._float32 = float32
        # By the operation itself, so that a layer used twice stays one layer.
        self._known: dict[int, Callable[..., Any]] = {}

    def run(self, source: Any, tensors: dict[int, Any], prefix: str) -> None:
        """Computes the tensors of a functional model from those of its inputs, which are there by their ids."""
        for node in ordered_nodes(source):
            if node.is_input:
                continue
            arguments, keywords = node.arguments.fill_in(tensors)
            # Recorded from the layer's default, True for augmentation and False for dropout: the caller's is meant.
            keywords.pop("training", None)
            operation = node.operation
            if isinstance(operation, keras.Model):
                made = self._inner(operation, arguments, keywords)
            else:
                made = self._stand_in(operation, prefix)(*arguments, **keywords)
            for old, new in zip(node.outputs, keras.tree.flatten(made), strict=True):
                tensors[id(old)] = new

    def _inner(self, model: Any, arguments: Any, keywords: Any) -> Any:
        inner = functional(model)
        given = [each for each in keras.tree.flatten((arguments, keywords)) if isinstance(each, keras.KerasTensor)]
        tensors = {id(tensor): value for tensor, value in zip(inner.inputs, given, strict=True)}
        change = Change(model.name, "Model", ("its layers",))
        if change not in self.changes:
            self.changes.append(change)
        self.run(inner, tensors, f"{model.name}_")
        return [tensors[id(tensor)] for tensor in inner.outputs]

    def _stand_in(self, operation: Any, prefix: str) -> Callable[..., Any]:
        if id(operation) not in self._known:
            taken = operation.name in self.names.origins
            name = f"{prefix}{operation.name}" if taken else operation.name
            self._known[id(operation)] = self._recorded(operation, name)
        return self._known[id(operation)]

    def _recorded(self, operation: Any, name: str) -> Callable[..., Any]:
        trainable = getattr(operation, "trainable", True)
        parts = Parts(name, operation.name, trainable, self.names, self._rules)
        rule = self._rules(operation)
        written = None if rule is None else rule(operation, parts)
        if written is None:
            options: dict[str, Any] = {"name": self.names.unique(name, operation.name)}
            if self._float32:
                options["dtype"] = "float32"
            if options["name"] != operation.name or (self._float32 and _precision(operation) != "float32"):
                self.changes.append(Change(operation.name, kind(operation), (options["name"],)))
            return cloned(operation, options)

        def call(*arguments: Any, **keywords: Any) -> Any:
            result = written(*arguments, **keywords)
            change = Change(operation.name, kind(operation), tuple(parts.made))
            if not (parts.kept and not parts.made) and change not in self.changes:
                self.changes.append(change)
            return result

        return call


def _precision(operation: Any) -> str:
    return str(operation.compute_dtype) if isinstance(operation, keras.Layer) else "float32"
