"""Weights of layers: found by name, and which of their axes count channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kernel:
    """A weight in which a layer is linear. Axes are counted from the end.

    Attributes:
        name: Name of the weight, as in `weight.name`.
        reads: Axis of the channels that the kernel reads.
        writes: Axes that together count the channels that the kernel writes. A depthwise kernel has two, the first of
            which is that of the channels that it reads: each of its outputs reads one channel.
        initializer: Attribute of the layer that holds the kernel's initializer.
    """

    name: str = "kernel"
    reads: int = -2
    writes: tuple[int, ...] = (-1,)
    initializer: str = "kernel_initializer"

    @property
    def depthwise(self) -> bool:
        return self.reads in self.writes


def weight(layer: Any, name: str) -> Any:
    """The weight of that name, None where the layer has none (a bias that is switched off, say).

    Args:
        name: name of the weight; `sublayer/name` for one of a layer within the layer, or the attribute that holds a
            weight without a name of its own.
    """
    for each in layer.weights:
        if each.name == name or ("/" in name and each.path.endswith(f"/{name}")):
            return each
    held = getattr(layer, name, None)
    return held if any(each is held for each in layer.weights) else None
