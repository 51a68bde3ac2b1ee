"""How many cycles a block of code takes on a Cortex-A53 whose caches answer at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from slimcam.deploy.benchmark.a53.instructions import Instruction, decode_instruction

# Rounds that are simulated, and those that are left out because the pipeline still fills.
_ROUNDS, _FILLING = 12, 4
_PORTS = {"alu": 2, "multiply": 1, "branch": 1}


@functools.cache
def cycles(code: tuple[str, ...]) -> float:
    """Mean cycles of one round of a block that runs again and again, as the loop of a kernel does.

    Two instructions start in a cycle, in the order of the program, if their registers are ready and the ports are
    free: two ALUs, one multiplier, one branch, one load/store unit, two 64-bit halves of the NEON unit.
    """
    finished = _simulate([decode_instruction(line) for line in code])
    return max(1.0, (finished[-1] - finished[_FILLING - 1]) / (_ROUNDS - _FILLING))


def _simulate(instructions: Sequence[Instruction]) -> list[int]:
    """The cycle in which each round issues its last instruction."""
    ready: dict[str, int] = {}
    chained: dict[str, int] = {}
    now, slots, halves, ports = 0, 2, 2, dict(_PORTS)
    memory_free = neon_free = 0
    finished = []
    for _ in range(_ROUNDS):
        for one in instructions:
            start = max([now, *(ready.get(register, 0) for register in one.reads)])
            if one.accumulates:
                register = one.accumulates
                start = max(start, chained.get(register, ready.get(register, 0)))
            if one.transfers:
                start = max(start, memory_free)
            if one.halves:
                start = max(start, neon_free)
            full = slots < 1 or halves < one.halves or ports.get(one.unit, 1) < 1
            if start == now and full:
                start = now + 1
            if start > now:
                now, slots, halves, ports = start, 2, 2, dict(_PORTS)
            slots -= 1
            halves -= one.halves
            if one.unit in ports:
                ports[one.unit] -= 1
            if one.transfers:
                memory_free = now + one.transfers
            if one.halves and one.holds > 1:
                neon_free = now + one.holds
            for register in one.writes:
                ready[register] = now + one.latency
                chained.pop(register, None)
            if one.accumulates:
                chained[one.accumulates] = now + one.chain
            if one.base:
                ready[one.base] = now + 1
        finished.append(now)
    return finished
