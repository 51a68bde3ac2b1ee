"""Reads what the profiler wrote (`profiler.c` tells the format): blocks, given to the nodes of a graph or to stages."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from slimcam.deploy.benchmark.a53.assignment import assign
from slimcam.deploy.benchmark.a53.elf import Functions
from slimcam.deploy.benchmark.a53.profile import Block, Profile, ProfiledOperator, Stretch, Tensor, Use

# Branches name an address, which differs from run to run and says nothing about time.
_TARGET = re.compile(r"^(b|bl|b\.\w+|cbn?z \w+,|tbn?z \w+, #\w+,|adrp? \w+,) ?#0x[0-9a-f]+$")
_BRANCH = re.compile(r"^(b|bl|br|blr|ret|cbn?z|tbn?z|b\.\w+|svc)\b")


def read_dump(dump: Path, guest: dict[str, Any], functions: Functions) -> Profile:
    """Puts together what the profiler and the guest wrote.

    Args:
        dump: File that the profiler wrote.
        guest: Answer of the guest.
        functions: Functions of the TFLite library.

    Raises:
        ValueError: the dump is not whole.
    """
    segments = [segment for _, segment in _read_segments(dump, _Symbols(guest, functions))]
    nodes = [
        (node["kind"], tuple(_tensor(each) for each in node["inputs"]), _tensor(node["output"]))
        for node in guest["operators"]
    ]
    owners = assign([[block.symbol for block, _ in segment] for segment in segments], [node[0] for node in nodes])
    nodes.append(("overhead", (), Tensor("", (), "int8")))
    blocks, uses = _add_up(segments, owners, len(nodes))
    return Profile(
        runtime=guest["runtime"],
        runtime_version=guest["runtime_version"],
        delegate=guest["delegate"],
        delegated=guest["delegated"],
        left_out=tuple(guest["left_out"]),
        blocks=blocks,
        operators=tuple(ProfiledOperator(*node, uses=used) for node, used in zip(nodes, uses, strict=True)),
    )


def read_stages(dump: Path, guest: dict[str, Any], functions: Functions) -> tuple[tuple[Block, ...], list[Stretch]]:
    """The same for a program that works in stages: all that it ran, the interpreter of Python included.

    Args:
        dump: the profiler's file; what was before the first mark of a stage is left out.
        guest: has the keys `library` and `maps`.
        functions: Functions of the TFLite library.

    Returns:
        Blocks, whose symbols `part` understands, and stretches in the order of execution. A stage has several: each
        operator that a delegate ran has its own, because its prefetched memory is timed by itself.

    Raises:
        ValueError: the dump is not whole.
    """
    segments = _read_segments(dump, _Parts(guest, functions))
    kept, owners = [], []
    stages: list[int] = []
    shared, stage = -1, None
    for began, segment in segments:
        if began.startswith("stage "):
            stage = int(began.split()[1])
            stages.append(stage)
            shared = len(stages) - 1
        if stage is None:
            continue
        if began == "operator":
            stages.append(stage)
        kept.append(segment)
        owners.append(len(stages) - 1 if began == "operator" else shared)
    blocks, uses = _add_up(kept, owners, len(stages))
    return blocks, [Stretch(number, used) for number, used in zip(stages, uses, strict=True)]


def part(symbol: str) -> str:
    """Which of `PARTS` the function of a block of `read_stages` belongs to."""
    name, found, _ = symbol.partition("/")
    return name if found else PARTS[0]


PARTS = ("models", "opencv", "numpy", "python", "system")
"""The TFLite library, OpenCV, numpy, the interpreter of Python and its modules, and the system's libraries."""


def _add_up(
    segments: Sequence[_Segment], owners: Sequence[int], count: int
) -> tuple[tuple[Block, ...], list[tuple[Use, ...]]]:
    """All blocks, and what each of `count` owners uses of them."""
    blocks: dict[Block, int] = {}
    uses: list[dict[int, Use]] = [{} for _ in range(count)]
    for segment, owner in zip(segments, owners, strict=True):
        for block, counts in segment:
            place = blocks.setdefault(block, len(blocks))
            use = Use(place, *counts)
            before = uses[owner].get(place)
            uses[owner][place] = before + use if before else use
    return tuple(blocks), [tuple(used.values()) for used in uses]


def _tensor(entry: dict[str, Any]) -> Tensor:
    return Tensor(entry["name"], tuple(entry["shape"]), entry["dtype"])


_Segment = list[tuple[Block, list[int]]]
"""Blocks and their counts."""

_Placed = tuple[int, int, list[int]]
"""Address and number of a translated block, and its counts in a segment."""


def _read_segments(dump: Path, symbols: _Symbols) -> list[tuple[str, _Segment]]:
    """What began each segment, and its blocks; code that has no symbol is left out."""
    began: dict[int, str] = {}
    code: dict[int, list[str]] = {}
    addresses: dict[int, int] = {}
    texts: dict[str, str] = {}
    counts: dict[int, list[list[int]]] = defaultdict(list)
    for line in dump.read_text().splitlines():
        mark, _, rest = line.partition(" ")
        if mark == "s":
            segment, *numbers = map(int, rest.split())
            counts[segment].append(numbers)
        elif mark == "g":
            number, _, what = rest.partition(" ")
            began[int(number)] = what
        elif mark == "b":
            number, address, _, opcodes = rest.split()
            addresses[int(number)] = int(address, 16)
            code[int(number)] = [opcodes[i : i + 8] for i in range(0, len(opcodes), 8)]
        elif mark == "o":
            texts[rest[:8]] = _TARGET.sub(r"\1", rest[9:].strip())
    if not code or not texts:
        raise ValueError(f"{dump}: the profile is not whole; profile the model again")
    made: dict[tuple[int, int], Block] = {}
    segments = []
    for segment in range(max(counts) + 1):
        found = []
        for chain in _chains(
            sorted((addresses[number], number, rest) for number, *rest in counts[segment]), code, texts
        ):
            start = chain[0][0]
            symbol = symbols.at(start)
            if symbol is None:
                continue
            opcodes_of = [opcode for _, number, _ in chain for opcode in code[number]]
            key = (start, len(opcodes_of))
            if key not in made:
                made[key] = Block(symbol, tuple(texts[opcode] for opcode in opcodes_of))
            runs = chain[0][2][0]
            accesses = [sum(column) for column in zip(*(rest[1:] for _, _, rest in chain), strict=True)]
            found.append((made[key], [runs, *accesses]))
        segments.append((began.get(segment, ""), found))
    return segments


def _chains(placed: list[_Placed], code: dict[int, list[str]], texts: dict[str, str]) -> list[list[_Placed]]:
    """Joins what the emulator cut (at the end of a page, for example): neighbors that run equally often."""
    chains: list[list[_Placed]] = [[each] for each in placed[:1]]
    for before, after in pairwise(placed):
        opcodes = code[before[1]]
        follows = before[0] + 4 * len(opcodes) == after[0] and before[2][0] == after[2][0]
        if follows and not _BRANCH.match(texts[opcodes[-1]]):
            chains[-1].append(after)
        else:
            chains.append([after])
    return chains


class _Symbols:
    """Names of the functions at addresses of the guest; None for code of Python's modules."""

    def __init__(self, guest: dict[str, Any], functions: Functions) -> None:
        self._functions = functions
        self._library = guest["library"]
        self._maps = [(int(start), int(end), int(base), str(file)) for start, end, base, file in guest["maps"]]
        self._known: dict[int, str | None] = {}

    def at(self, address: int) -> str | None:
        if address not in self._known:
            self._known[address] = self._find(address)
        return self._known[address]

    def _find(self, address: int) -> str | None:
        for start, end, base, file in self._maps:
            if start <= address < end:
                return self._named(file, self._functions.at(address - base) if file == self._library else None)
        return self._named("", None)

    def _named(self, file: str, function: str | None) -> str | None:
        """The symbol of code in a file; the function is known in the TFLite library only."""
        if function is not None:
            return None if "pybind11" in function else function
        name = Path(file).name
        return name if name.startswith(("libc.", "libm.")) else None


class _Parts(_Symbols):
    """The same with names for all code: a function of the TFLite library, or one of `PARTS` and a file in it."""

    def _named(self, file: str, function: str | None) -> str:
        if function is not None:
            return "python/pybind11" if "pybind11" in function else function
        path = Path(file)
        folders = set(path.parts)
        if folders & {"cv2", "opencv_python_headless.libs"}:
            name = "opencv"
        elif folders & {"numpy", "numpy.libs"}:
            name = "numpy"
        elif path.name.startswith("python3") or folders & {"lib-dynload", "ai_edge_litert"}:
            name = "python"
        else:
            name = "system"
        return f"{name}/{path.name}"
