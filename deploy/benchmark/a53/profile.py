"""What one inference executes: ARM instructions, block by block, operator by operator of the model's graph."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from slimcam.deploy.common.files import atomic


@dataclass(frozen=True)
class Block:
    """ARM code without a jump into or out of its middle: the function that it is in, and its disassembly."""

    symbol: str
    code: tuple[str, ...]

    @property
    def prefetches(self) -> bool:
        """It asks for the data of a later round itself (PRFM)."""
        return any(line.startswith("prfm ") for line in self.code)


@dataclass(frozen=True)
class Use:
    """How often an operator runs a block, with the data accesses and cache misses of these runs.

    `block` is the place in `Profile.blocks`. Misses are of the simulated data caches; what misses the second level has
    missed the first as well. The last three are of the simulated fetching of instructions and prediction of branches,
    and 0 where these are not simulated (in a model's profile).
    """

    block: int
    runs: int
    loads: int
    stores: int
    l1_misses: int
    l2_misses: int
    fetch_l1_misses: int = 0
    fetch_l2_misses: int = 0
    mispredicted: int = 0

    def __add__(self, other: Use) -> Use:
        """Both uses of the same block."""
        return Use(self.block, *(getattr(self, name) + getattr(other, name) for name in _COUNTS))


_COUNTS = tuple(field.name for field in fields(Use))[1:]
_STORED = 1 + _COUNTS.index("l2_misses") + 1
"""Numbers of a use that a file always has."""


@dataclass(frozen=True)
class Stretch:
    """What a program that works in stages runs of one of them at a time; `stage` is the program's number of it."""

    stage: int
    uses: tuple[Use, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph. `dtype` is numpy's name of it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


_NORMALIZATION = "batchnorm"
"""TensorFlow's scope of the arithmetic of a batch normalization, within that of the layer."""


@dataclass(frozen=True)
class ProfiledOperator:
    """A node of the graph and what it runs. The kind "overhead" is what no node could be found for."""

    kind: str
    inputs: tuple[Tensor, ...]
    output: Tensor
    uses: tuple[Use, ...]

    @property
    def layer(self) -> str:
        """The layer that it was converted from: of the names that the converter joined, the last one's scope.

        Names of the arithmetic of a batch normalization do not count: it is folded into the layer before it.
        """
        names = [[part for part in name.split("/") if part] for name in self.output.name.split(";")]
        own = [parts for parts in names if _NORMALIZATION not in parts]
        parts = own[-1] if own else names[-1][: names[-1].index(_NORMALIZATION) + 1]
        return parts[-2] if len(parts) > 1 else "/".join(parts)


@dataclass(frozen=True)
class Profile:
    """One inference on one thread.

    Attributes:
        runtime: library that executed it, with its version.
        delegate: "XNNPACK" or "none".
        delegated: operators which the delegate took.
        left_out: the others.
        blocks: the code that ran.
        operators: Operators in the order of the graph; the last is the "overhead".
    """

    runtime: str
    runtime_version: str
    delegate: str
    delegated: int
    left_out: tuple[str, ...]
    blocks: tuple[Block, ...]
    operators: tuple[ProfiledOperator, ...]

    def instructions(self, operator: ProfiledOperator | None = None) -> int:
        """Instructions that an operator executes; all of them without one."""
        operators = self.operators if operator is None else (operator,)
        return sum(use.runs * len(self.blocks[use.block].code) for each in operators for use in each.uses)

    def by_symbol(self, operator: ProfiledOperator | None = None) -> dict[str, int]:
        """Instructions of each function (XNNPACK's microkernels are such), the most frequent first."""
        operators = self.operators if operator is None else (operator,)
        counts: Counter[str] = Counter()
        for each in operators:
            for use in each.uses:
                counts[self.blocks[use.block].symbol] += use.runs * len(self.blocks[use.block].code)
        return dict(counts.most_common())

    def total(self, count: str) -> int:
        """Sum of one of the counts of `Use`, for example "l2_misses"."""
        return sum(getattr(use, count) for operator in self.operators for use in operator.uses)


def save_profile(profile: Profile, path: Path) -> None:
    """Writes a profile as compressed JSON, whole or not at all; the same profile gives the same bytes."""
    content = asdict(profile)
    content["operators"] = [
        {**operator, "uses": [_trimmed(use) for use in operator["uses"]]} for operator in content["operators"]
    ]
    with atomic(path) as partial:
        partial.write_bytes(gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0))


def load_profile(path: Path) -> Profile:
    """Reads what `save` wrote.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        blocks = tuple(Block(block["symbol"], tuple(block["code"])) for block in content.pop("blocks"))
        operators = tuple(
            ProfiledOperator(
                kind=operator["kind"],
                inputs=tuple(_tensor(each) for each in operator["inputs"]),
                output=_tensor(operator["output"]),
                uses=tuple(Use(*use) for use in operator["uses"]),
            )
            for operator in content.pop("operators")
        )
        left_out = tuple(content.pop("left_out"))
        return Profile(**content, left_out=left_out, blocks=blocks, operators=operators)
    except (ValueError, TypeError, KeyError, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: not a block profile, or damaged; remove it and profile the model again") from error


def compact(profile: Profile, share: float = 0.9999) -> Profile:
    """The same profile with the blocks alone that make up this share of the instructions."""
    weight: Counter[int] = Counter()
    for operator in profile.operators:
        for use in operator.uses:
            weight[use.block] += use.runs * len(profile.blocks[use.block].code)
    total, found = sum(weight.values()), 0
    kept: dict[int, int] = {}
    for place, count in weight.most_common():
        if found >= share * total:
            break
        kept[place] = len(kept)
        found += count

    def keep(uses: Iterable[Use]) -> tuple[Use, ...]:
        return tuple(replace(use, block=kept[use.block]) for use in uses if use.block in kept)

    return replace(
        profile,
        blocks=tuple(profile.blocks[place] for place in kept),
        operators=tuple(replace(operator, uses=keep(operator.uses)) for operator in profile.operators),
    )


def _tensor(entry: dict[str, Any]) -> Tensor:
    return Tensor(entry["name"], tuple(entry["shape"]), entry["dtype"])


def _trimmed(use: dict[str, int]) -> list[int]:
    """The numbers of a use, without those of what was not simulated."""
    numbers = list(use.values())
    while numbers[-1] == 0 and len(numbers) > _STORED:
        numbers.pop()
    return numbers
