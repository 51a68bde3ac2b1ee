"""What a line of ARM disassembly means to the Cortex-A53's pipeline: unit, registers, latency, issue slots.

The core issues up to two instructions a cycle, in order. Its NEON unit is 64 bits wide twice: an instruction on a
128-bit register takes both halves, so that one such, or two on 64 bits, start in a cycle. Its load port moves 64 bits a
cycle, its store port 128.

Sources: the pairing rules measured by ncnn (its wiki, "arm a53 a55 dual issue"); Arm DDI 0500, Cortex-A53 Technical
Reference Manual, for the widths of the ports; latencies as in LLVM's AArch64SchedA53.td, less what forwarding saves.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

FLAGS = "nzcv"


@dataclass(frozen=True)
class Instruction:
    """Attributes:
    unit: "alu", "multiply", "branch", "load", "store" or "neon".
    reads: registers that must be ready.
    writes: registers that are ready `latency` cycles after the issue.
    accumulates: the register that is read and written late, so that a chain of these waits for `chain` cycles only.
    latency: cycles until the result can be used.
    chain: cycles until an instruction that accumulates on the same register can start.
    halves: of the NEON unit that it takes in its cycle, 0 to 2.
    transfers: cycles that it keeps the load/store unit.
    holds: cycles that it keeps the whole NEON unit: 1 for what is pipelined, more for loads of several registers.
    base: address register that it moves on, ready in the next cycle.
    """

    unit: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    accumulates: str | None = None
    latency: int = 1
    chain: int = 1
    halves: int = 0
    transfers: int = 0
    holds: int = 1
    base: str | None = None


_REGISTER = re.compile(r"\b(?:([vqdshb])(\d+)|([xw])(\d+)|(sp))\b")
_NEON = re.compile(r"\b[vqdshb]\d+\b")
_GENERAL = re.compile(r"\b[xw](\d+|zr)\b")
_SPLIT = re.compile(r",(?![^\[]*\])(?![^{]*\})")
_VECTOR = re.compile(r"\b([vqdshb])\d+(?:\.(\d*)([bhsd]))?")
_LANE = re.compile(r"^v\d+\.[bhsd]\[\d+\]")
_NARROW = re.compile(r"^(v\d+\.(8b|4h|2s|1d)\b|[dshb]\d+\b|[xw]\d+)")
_BYTES = {"b": 1, "h": 2, "s": 4, "d": 8, "q": 16}

_LOADS = re.compile(r"^(ld[rpu]|ldn?p|ld[1-4]r?$|lda?x?r|ldar|ldur)")
_STORES = re.compile(r"^(st[rpu]|stn?p|st[1-4]$|stl?x?r|stlr|stur)")
_BRANCHES = {"b", "bl", "br", "blr", "ret", "cbz", "cbnz", "tbz", "tbnz", "svc"}
_SET_FLAGS = {"subs", "adds", "ands", "bics", "negs", "cmp", "cmn", "tst", "ccmp", "ccmn"}
_ONLY_FLAGS = {"cmp", "cmn", "tst", "ccmp", "ccmn"}
_USE_FLAGS = {"csel", "csinc", "csinv", "csneg", "cset", "csetm", "cinc", "cinv", "cneg", "adc", "sbc", "ccmp", "ccmn"}
_MULTIPLY = {"mul", "madd", "msub", "mneg", "smull", "umull", "smaddl", "umaddl", "smsubl", "umsubl", "smulh", "umulh"}
_QUICK_FLOAT = {"fmov", "fmax", "fmin", "fmaxnm", "fminnm", "fneg", "fabs", "fcmeq", "fcmgt", "fcmge", "fcmlt", "fcmle"}
_FUSED = {"fmla", "fmls", "fmadd", "fmsub", "fnmadd", "fnmsub"}
_INTEGER_MULTIPLY = ("smlal", "smlsl", "umlal", "umlsl", "smull", "umull", "mul", "mla", "mls", "sqrdmulh", "sqdmul")
_NARROWS = ("xtn", "sqxt", "uqxt", "shrn", "sqshrn", "sqrshrn", "fcvtn")
_PAIRWISE_AND_DOT = {"sadalp", "uadalp", "sdot", "udot"}
_INSERTS = {"bsl", "bit", "bif", "tbx", "sli", "sri"}


@functools.cache
def decode_instruction(line: str) -> Instruction:
    """Reads one line of capstone's disassembly; what it does not know passes for a simple ALU instruction."""
    mnemonic, _, rest = line.replace("\t", " ").strip().partition(" ")
    operands = [part.strip() for part in _SPLIT.split(rest)] if rest else []
    name = mnemonic.split(".")[0]
    neon = _NEON.search(rest) is not None
    if name in ("prfm", "prfum"):
        return Instruction("load", reads=_registers(rest), transfers=1)
    if _LOADS.match(name):
        return _load(name, operands, neon)
    if _STORES.match(name):
        return _store(name, operands, neon)
    if name in _BRANCHES:
        flags = (FLAGS,) if mnemonic.startswith("b.") else ()
        return Instruction("branch", reads=_registers(rest) + flags, latency=0)
    return _neon(name, operands) if neon else _general(name, operands, rest)


def _registers(text: str) -> tuple[str, ...]:
    found = []
    for vector, number, general, place, stack in _REGISTER.findall(text):
        found.append(f"v{number}" if vector else f"x{place}" if general else stack)
    return tuple(found)


def _split(operands: list[str]) -> tuple[list[str], list[str], str | None]:
    """Registers moved, address, and the address register if it is moved on (`[x1], #16` or `[x1, #16]!`)."""
    place = next((i for i, operand in enumerate(operands) if operand.startswith("[")), len(operands))
    moved, address = operands[:place], operands[place:]
    moves_on = len(address) > 1 or any(part.endswith("!") for part in address)
    return moved, address, _registers(address[0])[0] if moves_on else None


def _load(name: str, operands: list[str], neon: bool) -> Instruction:
    moved, address, base = _split(operands)
    writes = tuple(register for operand in moved for register in _registers(operand))
    reads = tuple(register for operand in address for register in _registers(operand))
    if not neon:
        wide = name in ("ldp", "ldnp", "ldpsw") and moved[0].startswith("x")
        beats = 2 if wide else 1
        return Instruction("load", reads, writes, latency=3, transfers=beats, base=base)
    beats = max(1, (sum(_width(operand, name) for operand in moved) + 7) // 8)
    # A lane keeps the rest of its register.
    if any("]" in operand for operand in moved):
        reads += writes
    return Instruction(
        "load",
        reads,
        writes,
        latency=4 if beats == 1 else 3 + beats,
        halves=1 if beats == 1 else 2,
        transfers=beats,
        holds=beats,
        base=base,
    )


def _width(operand: str, name: str) -> int:
    """Bytes that a load fetches for the registers of an operand."""
    total = 0
    for kind, count, lane in _VECTOR.findall(operand):
        if kind != "v":
            total += max(8, _BYTES[kind])
        elif not count or name.endswith("r"):
            total += 8
        else:
            total += int(count) * _BYTES[lane]
    return total


def _store(name: str, operands: list[str], neon: bool) -> Instruction:
    _, _, base = _split(operands)
    beats = 2 if name in ("stp", "stnp") and operands[0].startswith("q") else 1
    reads = tuple(register for operand in operands for register in _registers(operand))
    return Instruction("store", reads, latency=0, halves=int(neon), transfers=beats, holds=beats, base=base)


def _neon(name: str, operands: list[str]) -> Instruction:
    target, sources = operands[0], operands[1:]
    writes = _registers(target)[:1]
    reads = tuple(register for operand in sources for register in _registers(operand))
    if name in ("fcmp", "fcmpe", "fccmp", "fccmpe"):
        return Instruction("neon", _registers(target) + reads, (FLAGS,), latency=3, halves=1)
    if name in ("fdiv", "fsqrt"):
        return Instruction("neon", reads, writes, latency=20, halves=2, holds=10)
    lane = _LANE.match(target) is not None
    narrowing_high = name.endswith("2") and name.startswith(_NARROWS)
    wide = narrowing_high or not (lane or _NARROW.match(target))
    latency, chain, accumulates = 3, 1, None
    if name in _FUSED:
        latency, chain = 8, 4
        accumulates = writes[0] if name in ("fmla", "fmls") else None
    elif (
        (name.startswith("f") and name not in _QUICK_FLOAT)
        or name in ("scvtf", "ucvtf")
        or name in _PAIRWISE_AND_DOT
        or name.startswith(_INTEGER_MULTIPLY)
    ):
        latency = 4
    if accumulates is None and ("mla" in name or "mls" in name or name in _PAIRWISE_AND_DOT):
        accumulates = writes[0]
    moves = name in ("ins", "mov", "fmov", "dup", "umov", "smov")
    if moves and any(_GENERAL.search(operand) for operand in operands):
        latency = 4
        wide = wide and not _GENERAL.match(target)
    if accumulates is None and (lane or narrowing_high or name in _INSERTS):
        reads += writes
    return Instruction("neon", reads, writes, accumulates, latency, chain, halves=2 if wide else 1)


def _general(name: str, operands: list[str], rest: str) -> Instruction:
    writes: tuple[str, ...] = ()
    if name in _ONLY_FLAGS:
        reads = _registers(rest)
    else:
        writes = _registers(operands[0])[:1] if operands else ()
        reads = tuple(register for operand in operands[1:] for register in _registers(operand))
    if name in ("movk", "bfi", "bfxil"):
        reads += writes
    if name in _SET_FLAGS:
        writes += (FLAGS,)
    if name in _USE_FLAGS:
        reads += (FLAGS,)
    if name in _MULTIPLY:
        return Instruction("multiply", reads, writes, latency=4)
    if name in ("sdiv", "udiv"):
        return Instruction("multiply", reads, writes, latency=8)
    shifted = name not in ("lsl", "lsr", "asr", "ror") and re.search(r"\b(lsl|lsr|asr|ror|[us]xt[bhw])\b", rest)
    return Instruction("alu", reads, writes, latency=2 if shifted else 1)
