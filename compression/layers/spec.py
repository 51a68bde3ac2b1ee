"""What is known of one kind of layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.layers.outputs import Int8Output
from slimcam.compression.layers.tracking import Dependencies, Shape
from slimcam.compression.layers.weights import Kernel
from slimcam.compression.normal_form.parts import Rule

Macs = Callable[[Any, tuple[Shape, ...], Shape], int]
"""Multiply-accumulates of one call for one image: from the layer, its inputs' shapes and its output's."""


@dataclass(frozen=True)
class Counterpart:
    """How a layer is rebuilt in Keras 2 as `tf_keras.layers`' class of the same name.

    A layer is refused that sets an option which Keras 2 does not have.

    Attributes:
        options: Keras 3's name of each option that Keras 2 calls otherwise, by Keras 2's name.
        weights: Keras 2's name of each weight that it calls otherwise, by Keras 3's name.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)


Masked = Callable[[Any, NDArray[np.bool_], int], Callable[..., Any]]
"""Returns what is called at full size in the place of a layer: which `(channels,)` of its first input stay, along which
axis; the others are 0."""

Arguments = Callable[[Mapping[tuple[str, "int | None"], int], tuple[Any, ...]], tuple[Any, ...]]
"""Positional arguments of a call at other sizes: from the counts that the handler recorded, and those of before."""

Rebuild = Callable[[Any], Callable[..., Any]]
"""Returns what is called on tf_keras tensors in the place of a layer or operation."""


@dataclass(frozen=True)
class LayerSpec:
    """The facts of one kind of layer. What is left out is not known, and whoever needs it says so by name.

    Attributes:
        dependencies: Which channels of the inputs and weights belong to which of the output's; None freezes what the
            layer touches. Handlers to choose from are in `slimcam.compression.layers`, beside the entries.
        macs: Multiply-accumulates of a call; None counts none and names the layer as not counted.
        kernels: Weights in which the layer is linear, in the order of computation.
        output_weights: Weights with an entry per output channel that together scale the layer's result before its
            activation; the first must be there, the others (a bias) may be switched off.
        homogeneous: Whether a positive factor per channel passes from the inputs to the output, f(a x) = a f(x).
        limit: From a homogeneous layer to the value at which it cuts off, and up to which it is homogeneous.
        keras2: How the layer is rebuilt in Keras 2, for quantization-aware training; None where it cannot be. A
            function may build it of several layers that have an int8 form.
        flat: How the layer is written in the normal form (`compression.normalize`); None where it is part of it.
        int8: How it is written in the normal form for quantization, if otherwise.
        output: How its output is quantized; None for a layer that quantization-aware training does not know.
        masked: How the layer is computed at full size over the channels that stay, where zeros in the place of the
            others would count: in the statistics of layer normalization, say. None where zeros do no harm.
        arguments: How the arguments of its call change with the sizes that its handler recorded; None for a layer whose
            sizes are entries of its configuration.
    """

    dependencies: Dependencies | None = None
    macs: Macs | None = None
    kernels: tuple[Kernel, ...] = ()
    output_weights: tuple[str, ...] = ()
    homogeneous: bool | Callable[[Any], bool] = False
    limit: Callable[[Any], float | None] | None = None
    keras2: Counterpart | Rebuild | None = None
    flat: Rule | None = None
    int8: Rule | None = None
    output: Int8Output | None = None
    masked: Masked | None = None
    arguments: Arguments | None = None

    def is_homogeneous(self, layer: Any) -> bool:
        return self.homogeneous(layer) if callable(self.homogeneous) else self.homogeneous


def no_macs(layer: Any, inputs: tuple[Shape, ...], output: Shape) -> int:  # noqa: ARG001
    """For layers that multiply no matrices: what they do per element is not counted."""
    return 0
