"""How many channels are removed, and which."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from slimcam.deploy.common.choices import Choice, choose
from slimcam.deploy.common.result_key import KEY_UNLESS_DEFAULT


class Criterion(Choice):
    """What the importance of a channel is judged by (`slimcam.compression.pruning.criteria`)."""

    L1 = "l1"
    L2 = "l2"
    BN_SCALE = "bn_scale"
    FPGM = "fpgm"
    LAMP = "lamp"
    TAYLOR = "taylor"
    FISHER = "fisher"
    HESSIAN = "hessian"
    ACTIVATION = "activation"
    APOZ = "apoz"
    RANDOM = "random"


class Reduction(Choice):
    """How the values of several layers that make the same channels become one."""

    MEAN = "mean"
    SUM = "sum"
    MAX = "max"
    FIRST = "first"


class Normalization(Choice):
    """What the values of a layer, and then of a group, are divided by, so that layers and groups compare."""

    MEAN = "mean"
    MAX = "max"
    GAUSSIAN = "gaussian"
    NONE = "none"


class Scope(Choice):
    """Which channels may be removed: within blocks alone (`inner`), or those of residual streams and the stem too."""

    ALL = "all"
    INNER = "inner"


class Allocation(Choice):
    """How the pruning ratio is met: in every group alike, or by one ranking of the channels of all groups."""

    UNIFORM = "uniform"
    GLOBAL = "global"


class Schedule(Choice):
    """How the widths fall over several cuts: by the same share, by the same number, or much at first."""

    GEOMETRIC = "geometric"
    LINEAR = "linear"
    POLYNOMIAL = "polynomial"


class Penalty(Choice):
    """What makes channels small in training before the cut (`slimcam.compression.pruning.sparsity`)."""

    NONE = "none"
    GROUP_LASSO = "group_lasso"
    BN_SCALE = "bn_scale"


class Target(Choice):
    """What the pruning ratio and the budget are of."""

    CHANNELS = "channels"
    PARAMETERS = "parameters"
    MACS = "macs"
    SIZE = "size"
    LATENCY = "latency"


@dataclass
class PruningRatioConfig:
    """How many channels are removed, from where, and which.

    Attributes:
        ratio: Share of the target to remove, from 0 to below 1; of channels, of those in scope.
        scope: Channels to choose from: `inner` takes those within blocks, `all` those of residual streams and the stem
            too.
        allocation: `uniform` removes the share from every group; `global` ranks the channels of all groups together.
        round_to: Number that kept channels are a multiple of (8 or 16 suits the tiles of integer kernels).
        minimum: Fewest channels that a group keeps.
        criterion: Importance of a channel. By the weights alone: `l1`, `l2`, `bn_scale`, `fpgm`, `lamp`, `random` (the
            control). By inputs: `hessian`, `activation`, `apoz`. By inputs and the loss: `taylor`, `fisher`. Or
            `module:function` of your own (`slimcam.compression.pruning.criteria`).
        reduction: How the values of several layers that make the same channels become one: `mean`, `sum`, `max`,
            `first`.
        normalization: What values are divided by, first a layer's, then a group's: their `mean`, their `max`, their
            deviation once their mean is taken off (`gaussian`), nothing (`none`).
        target: What is to shrink: `channels`, `parameters`, `macs`, `size` (of the int8 file) or `latency`.
        budget: What the target may be at most, in place of `ratio`: a number (of channels, parameters or MACs; MB of
            `size`; milliseconds of `latency`), or `5x` for a fifth of what it is.
        ratios: Ratio of channels for groups of their own, by a pattern of their name or of a layer's that makes them,
            for example `{conv5_*: 0.3}`; the target is met by the others.
        keep: Patterns of groups that stay whole.
    """

    ratio: float = 0.7
    scope: str = Scope.ALL.value
    allocation: str = Allocation.UNIFORM.value
    round_to: int = 8
    minimum: int = 1
    criterion: str = Criterion.L2.value
    reduction: str = field(default=Reduction.MEAN.value, metadata=KEY_UNLESS_DEFAULT)
    normalization: str = field(default=Normalization.MEAN.value, metadata=KEY_UNLESS_DEFAULT)
    target: str = field(default=Target.CHANNELS.value, metadata=KEY_UNLESS_DEFAULT)
    budget: str | None = field(default=None, metadata=KEY_UNLESS_DEFAULT)
    ratios: dict[str, float] = field(default_factory=dict, metadata=KEY_UNLESS_DEFAULT)
    keep: list[str] = field(default_factory=list, metadata=KEY_UNLESS_DEFAULT)

    def __post_init__(self) -> None:
        for name, ratio in [("ratio", self.ratio), *((f"ratios.{key}", value) for key, value in self.ratios.items())]:
            if not 0 <= ratio < 1:
                raise ValueError(f"{name} is the share to remove, from 0 to below 1; got {ratio}")
        choose("scope", Scope, self.scope)
        choose("allocation", Allocation, self.allocation)
        if self.round_to < 1 or self.minimum < 1:
            raise ValueError(f"round_to and minimum are at least 1, got {self.round_to} and {self.minimum}")
        if ":" not in self.criterion:
            choose("criterion", Criterion, self.criterion)
        choose("reduction", Reduction, self.reduction)
        choose("normalization", Normalization, self.normalization)
        choose("target", Target, self.target)
        if self.budget is not None:
            self.limit(1.0)

    def limit(self, whole: float) -> float:
        """What the target may be at most, where the unpruned model has so much of it.

        Raises:
            ValueError: the budget is neither a number nor a factor.
        """
        if self.budget is None:
            return (1 - self.ratio) * whole
        text = str(self.budget).strip()
        try:
            number = float(text.removesuffix("x"))
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > 0) or (text.endswith("x") and number < 1):
            raise ValueError(f"budget is a number above 0, or a factor like 5x; got {self.budget!r}")
        return whole / number if text.endswith("x") else number * (1e6 if self.target == Target.SIZE else 1.0)
