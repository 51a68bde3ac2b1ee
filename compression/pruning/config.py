"""How many channels are removed, and which."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from slimcam.deploy.common.choices import Choice, choose
from slimcam.deploy.common.result_key import KEY_UNLESS_DEFAULT


class Criterion(Choice):
    """What the importance of a channel is measured by (`slimcam.compression.pruning.criteria`)."""

    L1 = "l1"
    L2 = "l2"
    OUTGOING = "outgoing"
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

    AUTO = "auto"
    MEAN = "mean"
    MAX = "max"
    GAUSSIAN = "gaussian"
    NONE = "none"


class Scope(Choice):
    """Which channels may be removed: within blocks alone (`inner`), or those of residual streams and the stem too."""

    ALL = "all"
    INNER = "inner"


class Allocation(Choice):
    """How the pruning ratio is met: in every group alike, or by one ranking of the channels of all groups.

    By `cost` a channel is ranked by its importance for what it costs of the target (Shen et al. 2022, "Structural
    pruning via latency-saliency knapsack"; greedily, in place of the knapsack).
    """

    UNIFORM = "uniform"
    GLOBAL = "global"
    COST = "cost"


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


class Policy(Choice):
    """Which kernels are pruned by magnitude: all, or those that XNNPACK has sparse kernels for."""

    ALL = "all"
    XNNPACK = "xnnpack"


class Pooling(Choice):
    """What a block of weights is measured by: the mean of their magnitudes, or the largest."""

    AVG = "AVG"
    MAX = "MAX"


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
        allocation: `uniform` removes the share from every group; `global` ranks the channels of all groups together;
            `cost` ranks them by importance divided by what a channel costs of the target.
        round_to: Number that kept channels are a multiple of (8 or 16 suits the tiles of integer kernels).
        minimum: Fewest channels that a group keeps.
        criterion: Importance of a channel. By the weights alone: `l1`, `l2`, `outgoing` (of the layers that read it),
            `bn_scale`, `fpgm`, `lamp`, `random` (the control). By inputs: `hessian`, `activation`, `apoz`. By inputs
            and the loss: `taylor`, `fisher`. Or `module:function` of your own (`slimcam.compression.pruning.criteria`).
        reduction: How the values of several layers that make the same channels become one: `mean`, `sum`, `max`,
            `first`.
        normalization: What values are divided by, first a layer's, then a group's: their `mean`, their `max`, their
            deviation once their mean is taken off (`gaussian`), nothing (`none`). `auto` is `none` for criteria whose
            values compare as they are (`lamp`, `taylor`, `fisher`, `hessian`), and `mean` for the others.
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
    criterion: str = Criterion.OUTGOING.value
    reduction: str = field(default=Reduction.MEAN.value, metadata=KEY_UNLESS_DEFAULT)
    normalization: str = field(default=Normalization.AUTO.value, metadata=KEY_UNLESS_DEFAULT)
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
        if self.allocation == Allocation.COST and self.normalization == Normalization.GAUSSIAN:
            raise ValueError(
                "allocation=cost divides importance by costs, which must not be negative; it cannot be with "
                "normalization=gaussian: use none or mean"
            )
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


@dataclass
class MagnitudeConfig:
    """Which weights become zero while the model trains, and when (Zhu and Gupta 2017, "To prune, or not to prune").

    Attributes:
        initial: Share of each kernel that is zero from the first step on; it grows by a polynomial to `prune.ratio`.
        end: Share of the steps after which `prune.ratio` is reached; the zeros of then stay.
        power: Exponent of the polynomial.
        frequency: Steps from one choice of the zeros to the next.
        block_size: Height and width of the blocks in which weights of dense kernels, `(inputs, outputs)`, become zero.
        block_pooling: What a block is measured by: the mean (`AVG`) or the largest (`MAX`) of its magnitudes.
        m_by_n: `[2, 4]` makes two of each four weights that follow each other along the input channels zero, from the
            first step on, in place of the schedule; empty leaves single weights free.
        policy: `all` prunes the kernels of all layers that tfmot can prune (convolutions but depthwise ones, dense
            layers); `xnnpack` those of 1x1 convolutions alone, of a network that XNNPACK can run sparse.
    """

    initial: float = 0.5
    end: float = 0.75
    power: float = 3.0
    frequency: int = 20
    block_size: list[int] = field(default_factory=lambda: [1, 1])
    block_pooling: str = Pooling.AVG.value
    m_by_n: list[int] = field(default_factory=list)
    policy: str = Policy.ALL.value

    def __post_init__(self) -> None:
        if not 0 <= self.initial < 1:
            raise ValueError(f"magnitude.initial is a share, 0 to below 1; got {self.initial}")
        if not 0 < self.end <= 1:
            raise ValueError(f"magnitude.end is a share of the steps, above 0 to 1; got {self.end}")
        if self.power <= 0 or self.frequency < 1:
            raise ValueError(
                f"magnitude.power is above 0, magnitude.frequency 1 or more; got {self.power} and {self.frequency}"
            )
        if len(self.block_size) != 2 or min(self.block_size) < 1:
            raise ValueError(f"magnitude.block_size is a height and a width, 1 or more; got {list(self.block_size)}")
        if self.m_by_n and (len(self.m_by_n) != 2 or not 0 < self.m_by_n[0] < self.m_by_n[1]):
            raise ValueError(
                f"magnitude.m_by_n is zeros and the weights that they are of, as [2, 4]; got {self.m_by_n}"
            )
        if self.m_by_n and self.block_size != [1, 1]:
            raise ValueError("magnitude.m_by_n and magnitude.block_size are two patterns: give one of them")
        choose("magnitude.block_pooling", Pooling, self.block_pooling)
        choose("magnitude.policy", Policy, self.policy)
