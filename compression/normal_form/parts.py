"""The layers of a normal form: made with unique names, and with the weights that they take over."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.errors import UnsupportedLayerError

Weights = Sequence[NDArray[Any]]


@dataclass(frozen=True)
class Change:
    """What the normal form did to one layer or operation of the model.

    Attributes:
        layer: Name in the model.
        kind: Kind in the model, as in the table of layer facts.
        into: Names of the layers that compute the same; none for a layer that is left out.
    """

    layer: str
    kind: str
    into: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.layer} ({self.kind}) -> {', '.join(self.into) or 'left out'}"


@dataclass
class Names:
    """Unique layer names, and from which layer of the model each comes.

    Attributes:
        origins: Layer of the model, by the name of the layer in the normal form.
    """

    origins: dict[str, str] = field(default_factory=dict)

    def unique(self, wanted: str, origin: str) -> str:
        """Gives `wanted`, with a number where that name is taken; recorded as coming from `origin`."""
        name, number = wanted, 1
        while name in self.origins:
            number += 1
            name = f"{wanted}_{number}"
        self.origins[name] = origin
        return name


Rules = Callable[[Any], "Rule | None"]
"""Tells how a layer or operation is written in the normal form; None for one that is part of it."""


@dataclass
class Parts:
    """Makes the layers that stand for one layer or operation of a model.

    Attributes:
        name: Base of the names of the new layers.
        origin: Name of the layer of the model.
        trainable: Whether the new layers are trained.
        names: Names of the normal form that is being made.
        rules: What new layers are written in themselves, unless weights are given.
        made: Names of the new layers so far.
        kept: Whether the layer is called as it is, under its own name.
    """

    name: str
    origin: str
    trainable: bool
    names: Names
    rules: Rules
    made: list[str] = field(default_factory=list)
    kept: bool = False

    def __call__(
        self,
        layer: type,
        *arguments: Any,
        suffix: str = "",
        weights: Weights | None = None,
        trainable: bool | None = None,
        **options: Any,
    ) -> Callable[..., Any]:
        """Returns what calls a new float32 layer, itself written in normal form at the first call.

        Args:
            suffix: Appended to the base of the name.
            weights: In the layer's order.
            trainable: Whether the new layer is trained; as the one that it stands for if absent.
        """
        wanted = f"{self.name}_{suffix}" if suffix else self.name
        options |= {"trainable": self.trainable if trainable is None else trainable, "dtype": "float32"}
        written: Callable[..., Any] | None = None

        def call(tensors: Any, **keywords: Any) -> Any:
            nonlocal written
            if written is None:
                trial = layer(*arguments, **options)
                if weights is not None:
                    trial.build(tensors.shape)
                    trial.set_weights(weights)
                rule = self.rules(trial)
                parts = Parts(wanted, self.origin, trial.trainable, self.names, self.rules, self.made)
                written = (None if rule is None else rule(trial, parts)) or self._new(trial, wanted, weights)
            return written(tensors, **keywords)

        return call

    def _new(self, layer: Any, wanted: str, weights: Weights | None) -> Callable[..., Any]:
        name = self.names.unique(wanted, self.origin)
        self.made.append(name)
        return cloned(layer, {"name": name}, weights or [])

    def keep(self, operation: Any) -> Callable[..., Any]:
        """Returns what calls the operation as it is."""
        name = self.names.unique(self.name, self.origin)
        self.kept = name == operation.name
        if not self.kept:
            self.made.append(name)
        return cloned(operation, {"name": name})


Rule = Callable[[Any, Parts], "Callable[..., Any] | None"]
"""Returns what is called on tensors in the place of a layer or operation; None for one that is in normal form."""


def placed(layer: Any, weights: Weights | None) -> Callable[..., Any]:
    """Returns what calls a layer, and sets its weights after the first call, which builds it."""
    pending = weights

    def call(*arguments: Any, **keywords: Any) -> Any:
        nonlocal pending
        result = layer(*arguments, **keywords)
        if pending:
            layer.set_weights(pending)
            pending = None
        return result

    return call


def cloned(operation: Any, changes: Mapping[str, Any], weights: Weights | None = None) -> Callable[..., Any]:
    """Returns what calls a copy of a layer or operation.

    Args:
        changes: Entries of the configuration that are to differ.
        weights: Of the copy; those of the original if absent.

    Raises:
        UnsupportedLayerError: the layer cannot be rebuilt from its configuration.
    """
    if not isinstance(operation, keras.Layer):
        clone = copy.copy(operation)
        clone._inbound_nodes, clone._outbound_nodes = [], []
        clone.name = changes.get("name", operation.name)
        return placed(clone, None)
    try:
        layer = type(operation).from_config({**operation.get_config(), **changes})
    except (NotImplementedError, TypeError) as error:
        raise UnsupportedLayerError(
            f"layer {operation.name!r} cannot be rebuilt from its configuration; give its class a get_config() that "
            f"names every argument of its __init__ ({error})"
        ) from error
    return placed(layer, [np.asarray(value) for value in operation.get_weights()] if weights is None else weights)


def chain(*steps: Callable[..., Any]) -> Callable[[Any], Any]:
    """One call after the other."""

    def call(x: Any, **_: Any) -> Any:
        for step in steps:
            x = step(x)
        return x

    return call


def as_image(make: Parts, inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Runs `inner` on `(N, ..., C)` as on images of one row, `(N, 1, length, C)`, and restores the rank."""

    def call(x: Any, **_: Any) -> Any:
        shape = x.shape[1:]
        if len(shape) == 3:
            return inner(x)
        length = shape[0] if len(shape) == 2 else 1
        y = inner(make(keras.layers.Reshape, (1, length, shape[-1]), suffix="image")(x))
        restored = y.shape[2:] if len(shape) == 2 else y.shape[3:]
        return make(keras.layers.Reshape, restored, suffix="restored")(y)

    return call
