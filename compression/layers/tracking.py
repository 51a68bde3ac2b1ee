"""Which channels depend on each other: what the handler of each kind of layer records, call by call.

A handler gets a `DependencyTracker`, where it records what it knows, and the `Call` in question. It returns the
channels of the output (of each, if there are several), or, as a string, the reason why they cannot be followed; then
the inputs' channels are frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.layers.weights import weight as find

Variables = NDArray[np.int64]
Shape = tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class Channels:
    """The channel axis of a tensor and the variable of each channel, `(size,)`; none where the size is unknown."""

    axis: int
    variables: Variables


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation.

    Attributes:
        operation: The layer or operation.
        inputs: Channels of each input tensor.
        input_shapes: Shape of each input tensor, with the batch axis.
        output_shapes: Shape of each output, with the batch axis.
        constants: Arguments that are not tensors of the model, flags left out.
        positional: All that was given by position, tensors included.
        keywords: Name under which each input tensor was given; empty for those given by position.
    """

    operation: Any
    inputs: tuple[Channels, ...]
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    constants: tuple[Any, ...] = ()
    positional: tuple[Any, ...] = ()
    keywords: tuple[str, ...] = ()

    @property
    def output_shape(self) -> Shape:
        """The shape of the first output."""
        return self.output_shapes[0]

    @property
    def channel_axis(self) -> int:
        """Where the layer expects the channels of its first input, by its data format."""
        return 1 if getattr(self.operation, "data_format", None) == "channels_first" else len(self.input_shapes[0]) - 1


@dataclass
class DependencyTracker:
    """Channel variables of a model: which exist, which weights have them, which are one, and which must stay.

    Attributes:
        owners: Layer that made each variable, or `layer/part`.
        weights: Variables along each (layer, weight, axis), `(size,)`; or `(blocks, size)` for a weight whose last axis
            falls into equal blocks, each with variables of its own along the axis, as a grouped kernel's does.
        producing: Those of `weights` whose slices compute the channel, as those of a kernel's output axis do.
        reading: Those of `weights` whose slices are multiplied with the channel and summed over channels, as those of a
            kernel's input axis are.
        sizes: Variables that each (layer, configuration key, index in a tuple or None) counts: a Conv2D's `filters`.
        united: Pairs of arrays that are one, element by element.
        balanced: Arrays `(blocks, size)` of variables of which each block keeps as many.
        parts: Variables of which some must stay, as those of an output of a split.
        merged: Variables that a sum (or another merge of equals) forms: those of residual streams.
        frozen: Variables that must stay, and why.
    """

    owners: list[str] = field(default_factory=list)
    weights: dict[tuple[str, str, int], Variables] = field(default_factory=dict)
    producing: set[tuple[str, str, int]] = field(default_factory=set)
    reading: set[tuple[str, str, int]] = field(default_factory=set)
    sizes: dict[tuple[str, str, int | None], Variables] = field(default_factory=dict)
    united: list[tuple[Variables, Variables]] = field(default_factory=list)
    balanced: list[Variables] = field(default_factory=list)
    parts: list[Variables] = field(default_factory=list)
    merged: list[Variables] = field(default_factory=list)
    frozen: list[tuple[Variables, str]] = field(default_factory=list)

    def new(self, owner: str, size: int) -> Variables:
        start = len(self.owners)
        self.owners.extend([owner] * size)
        return np.arange(start, start + size, dtype=np.int64)

    def new_frozen(self, owner: str, size: int, reason: str) -> Variables:
        variables = self.new(owner, size)
        self.freeze(variables, reason)
        return variables

    def produce(self, layer: Any, weight: str, axis: int, *, part: str = "") -> Variables:
        """Gives the variables that a weight computes along an axis; the same ones at each call of a shared layer.

        Args:
            part: what makes them within the layer, if it makes several kinds.
        """
        shape = find(layer, weight).shape
        key = (layer.name, weight, axis % len(shape))
        if key not in self.weights:
            self.weights[key] = self.new(f"{layer.name}/{part}" if part else layer.name, shape[axis])
            self.producing.add(key)
        return self.weights[key]

    def add_slice(
        self,
        layer: Any,
        weight: str,
        axis: int,
        variables: Variables,
        *,
        produces: bool = False,
        reads: bool = False,
    ) -> None:
        """Records the variables along a weight's axis, if the layer has the weight; further calls unite theirs.

        Args:
            weight: name of the weight; `sublayer/name` for one of a layer within the layer.
            variables: `(size,)`, or `(blocks, size)` as in `weights`.
            produces: whether slices along the axis compute the channel.
            reads: whether they are multiplied with the channel and summed over channels.
        """
        found = find(layer, weight)
        if found is not None:
            key = (layer.name, weight, axis % len(found.shape))
            self.unite(self.weights.setdefault(key, variables), variables)
            if produces:
                self.producing.add(key)
            if reads:
                self.reading.add(key)

    def add_size(self, layer: Any, key: str, variables: Variables, index: int | None = None) -> None:
        """Records that a configuration entry is the number of these variables; further calls unite theirs."""
        self.unite(self.sizes.setdefault((layer.name, key, index), variables), variables)

    def unite(self, left: Variables, right: Variables) -> None:
        if left is not right:
            self.united.append((left, right))

    def balance(self, blocks: Variables) -> None:
        """Records that each row of `(blocks, size)` variables keeps as many as the others.

        Where that cannot be planned for, because other layers mix the blocks, the rows become one.
        """
        self.balanced.append(blocks)

    def keep_some(self, variables: Variables) -> None:
        """Records that some of these variables must stay."""
        self.parts.append(variables)

    def freeze(self, variables: Variables, reason: str) -> None:
        self.frozen.append((variables, reason))

    def read(self, call: Call, axis: int, number: int = 0) -> Variables:
        """Gives the variables of an input along `axis`: frozen ones where its channels lie on another axis."""
        channels, name = call.inputs[number], call.operation.name
        if channels.axis == axis:
            return channels.variables
        reason = f"{name} works along axis {axis}, the channels lie on axis {channels.axis}"
        self.freeze(channels.variables, reason)
        return self.new_frozen(f"{name}:input", call.input_shapes[number][axis] or 0, reason)


Dependencies = Callable[[DependencyTracker, Call], "Channels | tuple[Channels, ...] | str"]
