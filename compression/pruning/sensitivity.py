"""How much each group of channels matters by itself: what is lost when channels of it alone go, without fine-tuning."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.errors import CompressionError
from slimcam.compression.pruning.batch_norm import recalibrate_batch_norm
from slimcam.compression.pruning.config import PruningRatioConfig
from slimcam.compression.pruning.graph import trace
from slimcam.compression.pruning.pruned import scores
from slimcam.compression.pruning.samples import Samples, inputs_of
from slimcam.compression.pruning.selection import blocks_of, keep_best, plan
from slimcam.compression.pruning.surgery import cut

logger = logging.getLogger(__name__)

RATIOS = (0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Sensitivity:
    """What is left of a model's worth when one group loses channels.

    Attributes:
        measure: `accuracy`, or `fidelity`: the mean cosine of the outputs with those of the whole model.
        whole: That of the whole model.
        removed: Share of channels that each group loses in turn, as rounded, ascending, by group name.
        left: What is left at each of these shares, by group name.
        sizes: Number of channels of each group.
    """

    measure: str
    whole: float
    removed: Mapping[str, tuple[float, ...]]
    left: Mapping[str, tuple[float, ...]]
    sizes: Mapping[str, int]

    def __str__(self) -> str:
        width = max(map(len, self.removed))
        lines = [
            f"{'group':<{width}} {'channels':>8}  {self.measure} {self.whole:.4f} with so much of the group removed"
        ]
        for name, removed in self.removed.items():
            values = "  ".join(f"{share:4.0%} {left:.4f}" for share, left in zip(removed, self.left[name], strict=True))
            lines.append(f"{name:<{width}} {self.sizes[name]:>8}  {values}")
        return "\n".join(lines)

    def suggested(self, ratio: float) -> dict[str, float]:
        """Ratios of the groups that remove a share of all their channels, each at the same loss.

        Li et al. 2017, https://arxiv.org/abs/1608.08710, section 3.2, choose by hand what this does by bisection.
        """
        total = sum(self.sizes.values())
        low, high = 0.0, max(0.0, *(self.whole - min(values) for values in self.left.values()))
        for _ in range(40):
            loss = (low + high) / 2
            found = {name: self._at(name, loss) for name in self.removed}
            if sum(found[name] * size for name, size in self.sizes.items()) < ratio * total:
                low = loss
            else:
                high = loss
        return {name: round(self._at(name, high), 2) for name in self.removed}

    def _at(self, name: str, loss: float) -> float:
        """The largest share that a group can lose at no more than a loss, linear between those that were tried."""
        shares = np.array([0.0, *self.removed[name]])
        losses = np.maximum.accumulate([0.0, *(self.whole - left for left in self.left[name])])
        beyond = np.flatnonzero(losses > loss)
        if not len(beyond):
            return float(shares[-1])
        place = int(beyond[0])
        part = (loss - losses[place - 1]) / (losses[place] - losses[place - 1])
        return float(shares[place - 1] + part * (shares[place] - shares[place - 1]))


def sensitivity(
    model: Any, config: PruningRatioConfig, samples: Samples, accuracy: Callable[[Any], float] | None = None
) -> Sensitivity:
    """Cuts channels out of one group after the other and evaluates what is left, with recalibrated statistics.

    Args:
        model: Keras 3 model in normal form (`compression.normalize`).
        config: criterion, scope and what is kept; the groups that it would prune are tried.
        samples: inputs, by which statistics are recalibrated and, without `accuracy`, fidelity is evaluated.
        accuracy: from a model to its accuracy.

    Raises:
        CompressionError: there are no inputs, nothing is in scope, or rounding leaves every group whole.
    """
    graph = trace(model)
    importances = scores(model, graph, config, samples)
    chosen = plan(graph, importances, config)
    batches = list(inputs_of(samples, "fidelity"))
    evaluate, measure = (accuracy, "accuracy") if accuracy is not None else (_fidelity(model, batches), "fidelity")
    steps = {group.name: group.step(config.round_to) for group in graph.groups}
    removed: dict[str, tuple[float, ...]] = {}
    left: dict[str, tuple[float, ...]] = {}
    for number, (name, size) in enumerate(chosen.sizes.items(), 1):
        wanted = {max(1, round((1 - ratio) * size / steps[name])) * steps[name] for ratio in RATIOS}
        counts = sorted((count for count in wanted if count < size), reverse=True)
        values = []
        for count in counts:
            smaller = cut(model, keep_best(importances, {name: count}, blocks_of(graph)), graph)
            recalibrate_batch_norm(smaller, batches)
            values.append(evaluate(smaller))
        if counts:
            removed[name], left[name] = tuple(1 - count / size for count in counts), tuple(values)
        logger.info(
            f"sensitivity: {number} of {len(chosen.sizes)}, {name}: {' '.join(f'{value:.3f}' for value in values)}"
        )
    if not removed:
        raise CompressionError(
            f"no group can lose channels in multiples of round_to={config.round_to}: the largest has "
            f"{max(chosen.sizes.values())}; lower round_to"
        )
    sizes = {name: chosen.sizes[name] for name in removed}
    return Sensitivity(measure, evaluate(model), removed, left, sizes)


def _fidelity(model: Any, batches: list[NDArray[np.float32]]) -> Callable[[Any], float]:
    """The mean cosine of a model's outputs with those of the whole one."""

    def outputs(each: Any) -> NDArray[np.float64]:
        rows = [keras.tree.flatten(each.predict_on_batch(batch)) for batch in batches]
        return np.concatenate(
            [np.concatenate([np.reshape(part, (len(part), -1)) for part in found], axis=1) for found in rows]
        ).astype(np.float64)

    expected = outputs(model)

    def cosine(each: Any) -> float:
        found = outputs(each)
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        return float(np.mean((found * expected).sum(axis=1) / np.where(lengths > 0, lengths, 1.0)))

    return cosine
