"""Which channels are removed: a plan that can be printed, compared, saved and applied again."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from slimcam.compression.errors import DamagedPlanError, OtherModelError, PlanError
from slimcam.compression.pruning.graph import ChannelGraph
from slimcam.deploy.common.files import write_text


@dataclass(frozen=True)
class Whole:
    """A group of which all channels stay: how many they are, and why."""

    channels: int
    reason: str


@dataclass(frozen=True)
class PruningPlan:
    """The channels that stay, for each group that the plan speaks of; all others keep theirs.

    Attributes:
        kept: Sorted indices of the channels that stay, by group name.
        sizes: Number of channels before the cut, by group name.
        whole: Groups that were not to be pruned, by name; the model's input is none of them.
    """

    kept: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]
    whole: Mapping[str, Whole] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Number of channels that stay, by group name."""
        return {name: len(channels) for name, channels in self.kept.items()}

    @property
    def channels(self) -> tuple[int, int]:
        """Number of all channels before and after the cut, those that stay whole included."""
        whole = sum(found.channels for found in self.whole.values())
        return sum(self.sizes.values()) + whole, sum(self.counts.values()) + whole

    @property
    def removed(self) -> float:
        """Share of all channels that the plan removes."""
        before, after = self.channels
        return 1 - after / before if before else 0.0

    @property
    def reasons(self) -> dict[str, int]:
        """Number of channels that stay whole, by the reason, the largest number first."""
        found: dict[str, int] = defaultdict(int)
        for group in self.whole.values():
            found[group.reason] += group.channels
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def validate(self, graph: ChannelGraph) -> None:
        """Checks that the plan was made for this graph.

        Raises:
            OtherModelError: a group is missing or has another size.
            DamagedPlanError: the indices do not fit the group.
            PlanError: a group must stay whole.
        """
        groups = {group.name: group for group in graph.groups}
        if not self.kept:
            raise DamagedPlanError("the pruning plan is empty: it names no channel group")
        if set(self.kept) != set(self.sizes):
            raise DamagedPlanError("the pruning plan is damaged: it names kept channels and sizes of different groups")
        for name, channels in self.kept.items():
            if name not in groups:
                raise OtherModelError(f"the pruning plan is for another model: this one has no channel group {name!r}")
            group = groups[name]
            if self.sizes[name] != group.size:
                raise OtherModelError(
                    f"the pruning plan is for another model: its group {name!r} has {self.sizes[name]} channels, "
                    f"this model's has {group.size}"
                )
            if (
                not channels
                or list(channels) != sorted(set(channels))
                or not 0 <= channels[0] <= channels[-1] < group.size
            ):
                raise DamagedPlanError(
                    f"the pruning plan is damaged: group {name!r} must keep one or more of its channels 0 to "
                    f"{group.size - 1}, each named once in ascending order"
                )
            in_blocks = np.bincount(np.array(channels) * group.blocks // group.size, minlength=group.blocks)
            if in_blocks.min() < in_blocks.max():
                raise PlanError(
                    f"group {name!r} lies in {group.blocks} blocks, of which each keeps as many channels as the "
                    f"others; the plan keeps {in_blocks.min()} to {in_blocks.max()}"
                )
            if group.frozen and len(channels) < group.size:
                raise PlanError(
                    f"group {name!r} cannot be pruned ({group.frozen}), but the plan removes channels of it"
                )

    def then(self, later: PruningPlan) -> PruningPlan:
        """The one plan that amounts to this one and, on what it leaves, a later one.

        Raises:
            OtherModelError: the later plan is not for what this one leaves.
        """
        if self.counts != dict(later.sizes):
            raise OtherModelError("the second pruning plan is not for the model that the first one leaves")
        kept = {name: tuple(channels[i] for i in later.kept[name]) for name, channels in self.kept.items()}
        return PruningPlan(kept=kept, sizes=self.sizes, whole=self.whole)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PruningPlan:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: the text is not a plan.
        """
        try:
            data = json.loads(text)
            return cls(
                kept={name: tuple(int(channel) for channel in channels) for name, channels in data["kept"].items()},
                sizes={name: int(size) for name, size in data["sizes"].items()},
                whole={name: Whole(**found) for name, found in data.get("whole", {}).items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedPlanError(
                f"not a pruning plan: expected JSON with 'kept' and 'sizes' by group name ({error!r})"
            ) from error

    def save(self, path: Path) -> None:
        """Writes the plan as JSON, atomically."""
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> PruningPlan:
        """Reads a plan.

        Raises:
            OSError: the file cannot be read.
            DamagedPlanError: it is not a plan.
        """
        try:
            return cls.from_json(path.read_text())
        except (DamagedPlanError, UnicodeDecodeError) as error:
            raise DamagedPlanError(f"{path}: {error}") from error

    def __str__(self) -> str:
        rows = [(name, self.sizes[name], len(channels)) for name, channels in self.kept.items()]
        if self.whole:
            pruned = sum(self.sizes.values()), sum(self.counts.values())
            rows += [("chosen from", *pruned), *((reason, count, count) for reason, count in self.reasons.items())]
        return _table([*rows, ("all channels", *self.channels)], "kept")

    def difference(self, other: PruningPlan) -> str:
        """A table of the groups of which another plan keeps others, or another number; empty where there are none.

        Raises:
            OtherModelError: the plans are of models that differ.
        """
        sizes = {**other.sizes, **{name: found.channels for name, found in other.whole.items()}}
        for name, size in self.sizes.items():
            if sizes.get(name, size) != size:
                raise OtherModelError(
                    f"the plans are of two models: group {name!r} has {size} and {sizes[name]} channels"
                )
        lines = []
        for name in dict.fromkeys([*self.kept, *other.kept]):
            size = self.sizes.get(name, other.sizes.get(name, 0))
            here, there = (set(plan.kept.get(name, range(size))) for plan in (self, other))
            if here != there:
                lines.append(f"{name:<32} {size:>8} {len(here):>6} {len(there):>6} {len(here & there):>8}")
        heading = f"{'group':<32} {'channels':>8} {'first':>6} {'second':>6} {'in both':>8}"
        return "\n".join([heading, *lines]) if lines else ""


def _table(rows: list[tuple[str, int, int]], left: str) -> str:
    width = max(len(row[0]) for row in rows)
    lines = [f"{'group':<{width}} {'channels':>8} {left:>6} {'removed':>8}"]
    for name, size, kept in rows:
        lines.append(f"{name:<{width}} {size:>8} {kept:>6} {1 - kept / max(size, 1):>8.0%}")
    return "\n".join(lines)
