"""What the importance of channels is measured by: the registry.

A criterion is a function of a model, its graph and samples (`None` where there are none). It gives, for each prunable
group by name, the value of each channel, `(size,)`, or a row of them for each layer that speaks of the group,
`(layers, size)`; `slimcam.compression.pruning.importance` makes one score of the rows. A user's own is named as
`module:function`:

    def mine(model, graph, samples):
        return {group.name: numpy.arange(group.size) for group in graph.prunable}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from slimcam.compression.errors import CompressionError
from slimcam.compression.pruning import activation_criteria, gradient_criteria, weight_criteria
from slimcam.compression.pruning.config import Criterion
from slimcam.compression.pruning.graph import ChannelGraph
from slimcam.compression.pruning.samples import Samples
from slimcam.deploy.common.choices import choose
from slimcam.deploy.common.own_code import find

CriterionFunction = Callable[[Any, ChannelGraph, "Samples | None"], Mapping[str, NDArray[Any]]]

CRITERIA: dict[Criterion, CriterionFunction] = {
    Criterion.L1: weight_criteria.l1,
    Criterion.L2: weight_criteria.l2,
    Criterion.OUTGOING: weight_criteria.outgoing,
    Criterion.BN_SCALE: weight_criteria.bn_scale,
    Criterion.FPGM: weight_criteria.fpgm,
    Criterion.LAMP: weight_criteria.lamp,
    Criterion.RANDOM: weight_criteria.at_random,
    Criterion.ACTIVATION: activation_criteria.activation,
    Criterion.APOZ: activation_criteria.apoz,
    Criterion.TAYLOR: gradient_criteria.taylor,
    Criterion.FISHER: gradient_criteria.fisher,
    Criterion.HESSIAN: gradient_criteria.hessian,
}


def criterion_function(name: str) -> CriterionFunction:
    """The function of a criterion's name, or of `module:function`.

    Raises:
        ValueError: there is none of that name.
        CompressionError: the module cannot be imported, or has no such function.
    """
    if ":" not in name:
        return CRITERIA[choose("criterion", Criterion, name)]
    try:
        found: CriterionFunction = find(name)
    except ValueError as error:
        raise CompressionError(f"criterion {name}: {error}") from error
    return found
