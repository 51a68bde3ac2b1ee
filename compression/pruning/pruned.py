"""Pruning a model in one call: no task, no training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slimcam.compression.normal_form.normalize import normalize
from slimcam.compression.pruning.batch_norm import recalibrate_batch_norm
from slimcam.compression.pruning.budget import MEASURED_TOLERANCE, Measure, measure, meet, per_cost
from slimcam.compression.pruning.config import Allocation, PruningRatioConfig, Target
from slimcam.compression.pruning.cost import Cost, cost
from slimcam.compression.pruning.graph import ChannelGraph, trace
from slimcam.compression.pruning.importance import Scores, importance
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.compression.pruning.reconstruct import reconstruct as least_squares
from slimcam.compression.pruning.samples import Samples
from slimcam.compression.pruning.surgery import cut


@dataclass(frozen=True)
class Pruned:
    """A pruned model, and how it came about.

    Attributes:
        model: The smaller Keras 3 model, flat and functional.
        plan: The channels that stayed.
        before: Cost of the model that was given.
        after: Cost of the smaller one.
    """

    model: Any
    plan: PruningPlan
    before: Cost
    after: Cost

    def __str__(self) -> str:
        return f"{self.plan}\n{saved(self.before, self.after)}"


def prune(
    model: Any,
    *,
    plan: PruningPlan | None = None,
    samples: Samples | None = None,
    latency: Callable[[Any], float] | None = None,
    reconstruct: bool = True,
    **options: Any,
) -> Pruned:
    """Removes channels of a functional or sequential Keras 3 model.

        smaller = compression.prune(model, target="macs", ratio=0.5).model

    The weights that stay are not trained: fine-tune the result. With `samples.inputs` the layers that read removed
    channels get the weights by which they lose least, and the statistics of batch normalization are recalibrated.

    Args:
        model: it is not changed.
        plan: channels to keep; chosen by the options if absent.
        samples: what the criterion may look at beside the weights.
        latency: from a Keras model to its milliseconds, for `target="latency"`.
        reconstruct: whether weights may change (`slimcam.compression.pruning.reconstruct`).
        options: those of `PruningRatioConfig`.

    Raises:
        CompressionError: the model, the plan or the options do not serve; the message says why.
    """
    model = normalize(model).model
    graph = trace(model)
    if plan is None:
        measured = None if latency is None else _measured(model, graph, latency)
        plan = choose(model, graph, PruningRatioConfig(**options), samples, measured)
    smaller = cut(model, plan, graph)
    if samples is not None and samples.inputs is not None:
        if reconstruct:
            least_squares(smaller, model, plan, graph, samples.inputs())
        recalibrate_batch_norm(smaller, samples.inputs())
    return Pruned(smaller, plan, cost(model), cost(smaller))


def choose(
    model: Any, graph: ChannelGraph, config: PruningRatioConfig, samples: Samples | None, latency: Measure | None
) -> PruningPlan:
    """The plan that a configuration asks for.

    Args:
        model: in normal form.
        graph: the model's, from `trace`.
        config: how many channels are removed, from where, and which.
        samples: what the criterion may look at beside the weights.
        latency: how many milliseconds plans take, for `target=latency`.

    Raises:
        CompressionError: the budget cannot be reached, a pattern matches nothing, or the criterion lacks its samples.
    """
    measured = None
    if config.target == Target.LATENCY and latency is not None:
        measured = latency
    elif config.target != Target.CHANNELS or config.budget is not None:
        measured = measure(model, graph, config.target)
    found = scores(model, graph, config, samples)
    if config.allocation == Allocation.COST:
        found = per_cost(graph, found, _priced(model, graph, measured))
    return meet(graph, found, config, measured)


def scores(model: Any, graph: ChannelGraph, config: PruningRatioConfig, samples: Samples | None) -> Scores:
    """The importance of channels by the criterion of a configuration."""
    options = {"reduction": config.reduction, "normalization": config.normalization}
    return importance(model, graph, config.criterion, samples, **options)


def saved(before: Cost, after: Cost) -> str:
    """What pruning has saved, in a line."""
    parts = [
        f"{name} {old:,} -> {new:,} ({1 - new / max(old, 1):.1%} less)"
        for name, old, new in (("parameters", before.parameters, after.parameters), ("MACs", before.macs, after.macs))
    ]
    return "; ".join(parts)


def _priced(model: Any, graph: ChannelGraph, measured: Measure | None) -> Measure:
    """What tells the cost of single channels: the target, or MACs where a device measures it."""
    if measured is None:
        return measure(model, graph, Target.CHANNELS)
    return measure(model, graph, Target.MACS) if measured.tolerance else measured


def _measured(model: Any, graph: ChannelGraph, latency: Callable[[Any], float]) -> Measure:
    return Measure(latency(model), lambda plan: latency(cut(model, plan, graph)), MEASURED_TOLERANCE)
