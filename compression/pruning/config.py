"""How many channels go, and how they are judged."""

from __future__ import annotations

from dataclasses import dataclass

CRITERIA = ("l1", "l2", "bn_scale")


@dataclass
class BudgetConfig:
    """How many channels go, and from where.

    Attributes:
        ratio: share of the channels to remove, 0 to below 1.
        scope: `all` groups, or only the `inner` ones of blocks, so that residual streams and the stem stay whole.
        allocation: `uniform` takes the share from every group; `global` ranks the channels of all groups together.
        round_to: kept channels are a multiple of this (8 or 16 suits the tiles of integer kernels).
        minimum: fewest channels that a group keeps.
    """

    ratio: float = 0.7
    scope: str = "all"
    allocation: str = "uniform"
    round_to: int = 8
    minimum: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise ValueError(f"ratio is the share of channels to remove, from 0 to below 1; got {self.ratio}")
        if self.scope not in ("all", "inner"):
            raise ValueError(f"scope is 'all' or 'inner', got {self.scope!r}")
        if self.allocation not in ("uniform", "global"):
            raise ValueError(f"allocation is 'uniform' or 'global', got {self.allocation!r}")
        if self.round_to < 1 or self.minimum < 1:
            raise ValueError(f"round_to and minimum are at least 1, got {self.round_to} and {self.minimum}")
