"""The schemes of quantization, and which layers are an exception to one. No framework is imported here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

from slimcam.compression.errors import CompressionError
from slimcam.deploy.common.choices import Choice
from slimcam.deploy.common.messages import did_you_mean

V = TypeVar("V")

PERCENTILE = 95.0
"""Of the images, by their smallest or largest activation, that a range holds: the others are outlier images."""


class Scheme(Choice):
    """What the numbers of a file are, and how they are found."""

    QAT_INT8 = "qat_int8"
    PTQ_INT8 = "ptq_int8"
    MIXED = "mixed"
    PTQ_INT16X8 = "ptq_int16x8"
    DYNAMIC = "dynamic"
    WEIGHTS_INT8 = "weights_int8"
    WEIGHTS_INT4 = "weights_int4"
    FLOAT16 = "float16"
    NONE = "none"

    @property
    def facts(self) -> SchemeFacts:
        return _FACTS[self]


@dataclass(frozen=True)
class SchemeFacts:
    """What to know of a scheme.

    Attributes:
        text: Weights and activations, in a few words.
        trains: Whether it is trained (quantization-aware training).
        integer: Whether it computes in integers, in ranges that images are needed for.
        delegated: Whether XNNPACK has kernels for all of it, so that what it leaves out is a fault.
    """

    text: str
    trains: bool = False
    integer: bool = False
    delegated: bool = False


_FACTS = {
    Scheme.QAT_INT8: SchemeFacts("int8 weights and activations, trained", trains=True, integer=True, delegated=True),
    Scheme.PTQ_INT8: SchemeFacts("int8 weights and activations, calibrated", integer=True, delegated=True),
    Scheme.MIXED: SchemeFacts("int8 but for some layers in float, calibrated", integer=True, delegated=True),
    Scheme.PTQ_INT16X8: SchemeFacts("int8 weights and int16 activations, calibrated", integer=True),
    Scheme.DYNAMIC: SchemeFacts("int8 weights, activations quantized while it runs"),
    Scheme.WEIGHTS_INT8: SchemeFacts("int8 weights, float arithmetic"),
    Scheme.WEIGHTS_INT4: SchemeFacts("int4 weights, float arithmetic"),
    Scheme.FLOAT16: SchemeFacts("float16 weights, float arithmetic"),
    Scheme.NONE: SchemeFacts("float32, not quantized"),
}


ALONE = tuple(scheme for scheme in Scheme if not (scheme.facts.trains or scheme is Scheme.MIXED))
"""The schemes that need neither a training nor the accuracy of a task: a model, and inputs at the most."""


def default_scheme(samples: object) -> Scheme:
    """The scheme of a model alone where none is named.

    Without samples (`None`) one that slows no network down: `dynamic` speeds convolutions and dense layers up, but
    XNNPACK has no kernel for its depthwise ones.
    """
    return Scheme.WEIGHTS_INT8 if samples is None else Scheme.PTQ_INT8


def require_alone(scheme: Scheme, samples: object) -> None:
    """Raises:
    CompressionError: A model alone cannot have the scheme, or needs samples for it, which are `None`.
    """
    if scheme not in ALONE:
        what = "is trained" if scheme.facts.trains else "is evaluated by the accuracy of a task"
        raise CompressionError(f"{scheme} {what}, and here is a model alone; take one of {', '.join(ALONE)}")
    if scheme.facts.integer and samples is None:
        others = [each for each in ALONE if not each.facts.integer]
        raise CompressionError(
            f"{scheme} takes the ranges of activations from samples, and none are given; give images, or take a scheme "
            f"that needs none: {', '.join(others)}"
        )


class LayerPolicy(Choice):
    """What a layer's numbers are, where it is not as the scheme says."""

    INT8 = "int8"
    INT8_WEIGHTS = "int8 weights"
    FLOAT = "float"


FIRST, LAST = "first", "last"
"""Patterns for the first and the last layer with a kernel, whatever they are called."""


def by_pattern(patterns: Mapping[str, V], layers: Sequence[str], kernels: Sequence[str]) -> dict[str, V]:
    """What patterns of names say of layers; of several that match a layer, the last counts.

    Args:
        patterns: Values by pattern: a name, `conv4_*`, `first` or `last`.
        layers: Names of all layers in the order of computation.
        kernels: Names of those with a kernel, in this order.

    Returns:
        The value of each layer that a pattern matches, by the layer's name.

    Raises:
        CompressionError: A pattern matches no layer.
    """
    found: dict[str, V] = {}
    ends = {FIRST: kernels[:1], LAST: kernels[-1:]}
    for pattern, value in patterns.items():
        matching = ends.get(pattern) or [name for name in layers if fnmatchcase(name, pattern)]
        if not matching:
            raise CompressionError(
                f"no layer of the model is called {pattern!r}{did_you_mean(pattern, [*layers, FIRST, LAST])}"
            )
        found |= dict.fromkeys(matching, value)
    return found
