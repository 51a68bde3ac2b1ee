"""How many channels are removed, and which."""

from __future__ import annotations

from dataclasses import dataclass

from slimcam.deploy.common.choices import Choice, choose


class Criterion(Choice):
    """What the importance of a channel is judged by (`slimcam.compression.pruning.importance`)."""

    L1 = "l1"
    L2 = "l2"
    BN_SCALE = "bn_scale"


class Scope(Choice):
    """Which channels may be removed: within blocks alone (`inner`), or those of residual streams and the stem too."""

    ALL = "all"
    INNER = "inner"


class Allocation(Choice):
    """How the pruning ratio is met: in every group alike, or by one ranking of the channels of all groups."""

    UNIFORM = "uniform"
    GLOBAL = "global"


@dataclass
class PruningRatioConfig:
    """How many channels are removed, and from where.

    Attributes:
        ratio: Share of the channels to remove, from 0 to below 1.
        scope: Channels to choose from: `inner` takes those within blocks, `all` those of residual streams and the stem
            too.
        allocation: `uniform` removes the share from every group; `global` ranks the channels of all groups together.
        round_to: Number that kept channels are a multiple of (8 or 16 suits the tiles of integer kernels).
        minimum: Fewest channels that a group keeps.
    """

    ratio: float = 0.7
    scope: str = Scope.ALL.value
    allocation: str = Allocation.UNIFORM.value
    round_to: int = 8
    minimum: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise ValueError(f"ratio is the share of channels to remove, from 0 to below 1; got {self.ratio}")
        choose("scope", Scope, self.scope)
        choose("allocation", Allocation, self.allocation)
        if self.round_to < 1 or self.minimum < 1:
            raise ValueError(f"round_to and minimum are at least 1, got {self.round_to} and {self.minimum}")
